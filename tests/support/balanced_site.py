"""A balancer before two proxies, and an upstream that does to each request what the test says just then."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from support.balancers import Balancer
from support.gateway import Gateway, bearer
from support.processes import DEADLINE
from support.upstreams import OK, Conversation, RawUpstream

type Act = Callable[[Conversation], None]
"""What the upstream does once it has read the head of a request; the connection is used again after that."""


def answer(conversation: Conversation) -> None:
    conversation.send(OK)


class Stage:
    """An upstream that acts each request in the way of the moment, over connections that stay."""

    def __init__(self) -> None:
        self.act: Act = answer
        self.heads: list[bytes] = []
        self.upstream = RawUpstream(self._serve)

    def _serve(self, conversation: Conversation) -> None:
        conversation.sock.settimeout(None)
        conversation.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            conversation.received = b""
            self.heads.append(conversation.read_head())
            self.act(conversation)


@dataclass
class Site:
    """A balancer, two proxies, a token, and the upstream's stage."""

    balancer: Balancer
    gateway: Gateway
    stage: Stage
    token: dict[str, Any]

    def client(self, *, http2: bool = False, timeout: float = DEADLINE) -> httpx.Client:
        return httpx.Client(
            base_url=self.balancer.url,
            headers=bearer(self.token),
            verify=self.balancer.tls,
            http2=http2,
            timeout=timeout,
        )

    def head(self, line: str, *headers: str) -> bytes:
        lines = [line, "Host: localhost", f"Authorization: Bearer {self.token['token']}", *headers]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    def ask(self, target: str, *headers: str) -> tuple[bytes, bytes]:
        """Send a GET with this very target over a connection of its own, and return its answer."""
        with self.balancer.client() as client:
            client.send(self.head(f"GET {target} HTTP/1.1", *headers))
            return client.read_answer()
