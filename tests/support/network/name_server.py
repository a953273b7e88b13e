"""A DNS server that gives every name the addresses of the test: A records alone, over UDP (RFC 1035)."""

import socket
import struct
import threading
from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Self

_A = 1
_HEADER = struct.Struct("!6H")
_ANSWERED = 0x8180
"""An answer, recursion desired and available, no error."""


class NameServer:
    """Every name has `addresses`; with `answers` False the server is silent."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self.addresses = list(addresses)
        self.answers = True
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            if not query:
                return
            if self.answers:
                self._socket.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        end = query.index(b"\0", _HEADER.size) + 5  # behind the name, its type and its class
        question = query[_HEADER.size : end]
        (kind,) = struct.unpack("!H", question[-4:-2])
        records = [_record(address) for address in self.addresses] if kind == _A else []
        (query_id,) = struct.unpack("!H", query[:2])
        return _HEADER.pack(query_id, _ANSWERED, 1, len(records), 0, 0) + question + b"".join(records)


def _record(address: str) -> bytes:
    """Write an address of the name that was asked for, which may be kept for a second."""
    return b"\xc0\x0c" + struct.pack("!HHIH", _A, 1, 1, 4) + IPv4Address(address).packed
