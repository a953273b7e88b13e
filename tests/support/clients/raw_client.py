"""A client that sends and reads bytes, for tests of bytes that a library would tidy up."""

import socket
import ssl
from types import TracebackType
from typing import Self

from support.gateway.processes import DEADLINE


class RawClient:
    """One connection to a proxy, or with TLS to `localhost`."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        self._ahead = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read_head(self) -> bytes:
        """Read an answer's status line and headers, without the blank line."""
        while b"\r\n\r\n" not in self._ahead:
            self._ahead += self._some()
        head, _, self._ahead = self._ahead.partition(b"\r\n\r\n")
        return head

    def read_line(self) -> bytes:
        """Read a line, without its end."""
        while b"\r\n" not in self._ahead:
            self._ahead += self._some()
        line, _, self._ahead = self._ahead.partition(b"\r\n")
        return line

    def read(self, length: int) -> bytes:
        while len(self._ahead) < length:
            self._ahead += self._some()
        data, self._ahead = self._ahead[:length], self._ahead[length:]
        return data

    def read_answer(self) -> tuple[bytes, bytes]:
        """Read an answer that tells its length: its head and its body."""
        head = self.read_head()
        fields = (line.partition(b":") for line in head.lower().split(b"\r\n"))
        return head, self.read(next(int(value) for name, _, value in fields if name == b"content-length"))

    def read_to_end(self) -> bytes:
        """Read until the proxy closes."""
        while data := self.sock.recv(65536):
            self._ahead += data
        data, self._ahead = self._ahead, b""
        return data

    def _some(self) -> bytes:
        data = self.sock.recv(65536)
        assert data, f"closed before the answer was complete: {self._ahead!r}"
        return data
