"""mitmweb's own API, as its page in a browser uses it."""

import json
import threading
import time
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Self

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support.gateway.processes import DEADLINE

PASSWORD = "web-password"

type Flow = dict[str, Any]


class WebClient:
    """An operator who is logged in to mitmweb."""

    _xsrf = MappingProxyType({"X-XSRFToken": "00" * 16})

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {PASSWORD}"}, timeout=DEADLINE)
        self._http.get("/").raise_for_status()
        # The page gets it over /updates; only the cookie and the header are compared.
        self._http.cookies["_mitmproxy_xsrf"] = self._xsrf["X-XSRFToken"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str) -> httpx.Response:
        return self._http.get(path)

    def post(self, path: str, body: object = None) -> httpx.Response:
        return self._http.post(path, json=body, headers=self._xsrf)

    def put(self, path: str, body: object) -> httpx.Response:
        return self._http.put(path, json=body, headers=self._xsrf)

    def flows(self) -> list[Flow]:
        flows: list[Flow] = self.get("/flows").raise_for_status().json()
        return flows

    def flow(self, path: str, condition: Callable[[Flow], object]) -> Flow:
        """Poll the newest flow of a path until it meets `condition`."""
        deadline = time.monotonic() + DEADLINE
        while True:
            flows = [flow for flow in self.flows() if flow.get("request", {}).get("path") == path]
            if flows and condition(flows[-1]):
                return flows[-1]
            assert time.monotonic() < deadline, flows
            time.sleep(0.02)  # /updates would report it, but polling a list is simpler

    def command(self, name: str, *arguments: str) -> str:
        """Run a command of mitmproxy's."""
        answer = self.post(f"/commands/{name}", {"arguments": arguments}).raise_for_status().json()
        assert "error" not in answer, answer
        return str(answer["value"])


class Watcher:
    """Polls everything that mitmweb shows, and listens to the updates of its pages, until the block ends."""

    def __init__(self, url: str) -> None:
        self.polls: list[str] = []
        self.updates: list[str] = []
        self._client = WebClient(url)
        self._websocket = connect(
            f"{url.replace('http:', 'ws:')}/updates",
            additional_headers={"Authorization": f"Bearer {PASSWORD}"},
            max_size=None,
        )
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._poll), threading.Thread(target=self._listen)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._websocket.close()
        for thread in self._threads:
            thread.join()
        self._client.__exit__()

    def _poll(self) -> None:
        while not self._done.is_set():
            flows = self._client.get("/flows").text
            self.polls += [flows, *(self._client.get(path).text for path in ("/events", "/options", "/state"))]
            for flow in json.loads(flows)[-3:]:
                for side in ("request", "response", "messages"):
                    self.polls.append(self._client.get(f"/flows/{flow['id']}/{side}/content/auto").text)

    def _listen(self) -> None:
        try:
            for message in self._websocket:
                self.updates.append(message if isinstance(message, str) else message.decode("latin-1"))
        except ConnectionClosed:
            pass
