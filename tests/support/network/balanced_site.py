"""A balancer before two proxies, and an upstream whose current act answers each request."""

from dataclasses import dataclass
from typing import Any

import httpx

from support.gateway.gateway import Gateway, bearer
from support.gateway.processes import DEADLINE
from support.network.balancers import Balancer
from support.upstreams.stage import Stage


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
