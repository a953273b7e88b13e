"""Upstreams: the demo upstream as a process, and a raw one that records bytes and answers with bytes."""

import contextlib
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from support.gateway.processes import DEADLINE, Process, clean_environment, free_port, python

KEY = "sk-upstream-key-of-the-tests-0123456789"


class DemoUpstream:
    """The demo upstream, with its record of requests."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    @classmethod
    @contextlib.contextmanager
    def start(cls, folder: Path, *, key: str = KEY, chunk_delay: float = 0.0, port: int = 0) -> Iterator[Self]:
        port = port or free_port()
        command = python("-m", "manage_api.demo", "--port", str(port), "--api-key", key)
        command += ["--chunk-delay", str(chunk_delay)]
        process = Process(command, env=clean_environment(), log=folder / f"upstream-{port}.log", forked=True)
        try:
            process.wait_for_port(port, "/_demo/requests")
            yield cls(process, port)
        finally:
            process.stop()

    def requests(self) -> list[dict[str, Any]]:
        requests: list[dict[str, Any]] = httpx.get(f"{self.url}/_demo/requests").json()["requests"]
        return requests

    def count(self) -> int:
        count: int = httpx.get(f"{self.url}/_demo/requests").json()["count"]
        return count

    def clear(self) -> None:
        httpx.delete(f"{self.url}/_demo/requests").raise_for_status()

    def wait_for_last(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Poll the record until its last request meets `condition`."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            requests = self.requests()
            if requests and condition(requests[-1]):
                return requests[-1]
        raise AssertionError(f"no such request in time: {self.requests()}")


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
CLOSING = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
"""The last response of a connection: the gateway keeps none."""


@dataclass
class Conversation:
    """One connection to a raw upstream."""

    sock: socket.socket
    received: bytes = b""
    closed: threading.Event = field(default_factory=threading.Event)

    def read_head(self) -> bytes:
        """Read up to the end of the next request's headers and return them."""
        start = len(self.received)
        while b"\r\n\r\n" not in self.received[start:]:
            self.read_more()
        end = self.received.index(b"\r\n\r\n", start) + 4
        return self.received[start:end]

    def read_body(self, length: int) -> bytes:
        """Read until `length` bytes came after the first request's headers, and return those."""
        start = self.received.index(b"\r\n\r\n") + 4
        while len(self.received) < start + length:
            self.read_more()
        return self.received[start:]

    def read_message(self) -> tuple[bytes, bytes]:
        """Read the next request, which tells its length, and forget it. Returns its head and its body."""
        while b"\r\n\r\n" not in self.received:
            self.read_more()
        head, _, _ = self.received.partition(b"\r\n\r\n")
        found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        end = len(head) + 4 + (int(found[1]) if found else 0)
        while len(self.received) < end:
            self.read_more()
        message, self.received = self.received[:end], self.received[end:]
        return head, message[len(head) + 4 :]

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def wait_until_closed(self) -> None:
        """Read until the peer hangs up."""
        with contextlib.suppress(ConnectionError):
            while True:
                self.read_more()

    def read_more(self) -> None:
        """Read some more bytes."""
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError("the proxy hung up")
        self.received += data


class RawUpstream:
    """An upstream that runs a function of the test for each connection, in a thread of its own; over TLS with `tls`.

    A failed handshake counts among the conversations, without bytes.
    """

    def __init__(
        self,
        answer: Callable[[Conversation], None],
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._for_each = answer
        self.tls = tls
        self._listener = socket.create_server((host, port))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.conversations: list[Conversation] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.hang_up()

    @property
    def answer(self) -> Callable[[Conversation], None]:
        """The function that runs for each connection. A new one ends those of the one before: they may be kept."""
        return self._for_each

    @answer.setter
    def answer(self, answer: Callable[[Conversation], None]) -> None:
        self._for_each = answer
        self.hang_up()

    def hang_up(self) -> None:
        """End all connections, and wait for that."""
        for conversation in self.conversations:
            with contextlib.suppress(OSError):
                conversation.sock.shutdown(socket.SHUT_RDWR)
            conversation.closed.wait(DEADLINE)

    def forget(self) -> None:
        """End all connections, as the gateway may keep them, and forget what came over them."""
        self.hang_up()
        self.conversations.clear()

    def received(self) -> bytes:
        """Return all that came, over all connections."""
        return b"".join(conversation.received for conversation in self.conversations)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(DEADLINE)
            conversation = Conversation(sock)
            self.conversations.append(conversation)
            threading.Thread(target=self._serve, args=(conversation,), daemon=True).start()

    def _serve(self, conversation: Conversation) -> None:
        try:
            if self.tls is not None:
                conversation.sock = self.tls.wrap_socket(conversation.sock, server_side=True)
            self.answer(conversation)
        except OSError:
            pass  # the proxy hung up, or the test ended
        finally:
            conversation.sock.close()
            conversation.closed.set()


def answer_all(response: bytes = OK) -> Callable[[Conversation], None]:
    """Answer every request without a body with the same bytes."""

    def answer(conversation: Conversation) -> None:
        while True:
            conversation.read_head()
            conversation.send(response)

    return answer


def json_response(body: object, *, headers: str = "", status: str = "200 OK") -> bytes:
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n{headers}\r\n"
    return head.encode() + content
