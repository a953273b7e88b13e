"""A client that costs next to nothing, so that many of them load the gateway, and not the machine."""

import http.client
from typing import Self
from urllib.parse import urlsplit


class KeptAlive:
    """A kept-alive connection to a proxy."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, token: str) -> int:
        """Ask for the models with a token's value; return the status of the answer."""
        self._connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {token}"})
        response = self._connection.getresponse()
        response.read()
        return response.status
