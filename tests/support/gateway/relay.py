"""A gateway before an upstream whose bytes a test writes itself: on both sides, bytes that a library would tidy up."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import httpx

from support.gateway.gateway import Gateway, bearer
from support.upstreams.upstreams import OK, Conversation, RawUpstream, answer_all

NO_HEADERS: Mapping[str, str] = {}

type Answer = bytes | Callable[[Conversation], None]


class Relayed(NamedTuple):
    """The request that the upstream got and the response that the client got, with its body not decoded."""

    received: bytes
    response: httpx.Response
    body: bytes


class Relay:
    """The gateway, its upstream, and a token."""

    def __init__(self, gateway: Gateway, upstream: RawUpstream) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.token = gateway.make_token()

    def expect(self, answer: Answer = OK) -> None:
        """Forget all requests so far; from now on answer like this."""
        self.upstream.forget()
        self.upstream.answer = answer if callable(answer) else answer_all(answer)

    def send(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
        content: bytes | None = None,
        answer: Answer = OK,
    ) -> Relayed:
        """Send one request over a connection of its own."""
        self.expect(answer)
        with (
            httpx.Client(base_url=self.gateway.url, headers=bearer(self.token)) as client,
            client.stream(method, target, headers=headers, content=content) as response,
        ):
            body = b"".join(response.iter_raw())
        return Relayed(self.upstream.received(), response, body)

    def head(self, line: str, *headers: str) -> bytes:
        """Write the head of a request with the token; `Host` is added where it is not among `headers`."""
        host = [] if any(header.startswith("Host:") for header in headers) else ["Host: proxy"]
        lines = [line, *host, f"Authorization: Bearer {self.token['token']}", *headers]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
