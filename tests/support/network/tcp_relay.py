"""A network between a client and a server that fails at a test's command: hangs, cuts, refuses or loses a message."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Self

COMMIT = b"COMMIT\0"
"""The bytes with which PostgreSQL's clients commit, in either protocol."""

_SIZE = 65536
_RESET = struct.pack("ii", 1, 0)


class Fate(Enum):
    """The fate of a message of a client, and of its connection."""

    ANSWER_LOST = auto()
    """The server gets it, and answers; then the client's side is reset."""
    ANSWER_HELD = auto()
    """The server gets it, and answers; nothing more comes to the client."""
    LOST = auto()
    """The client's side is reset before the server gets it; the server does not notice."""
    HELD = auto()
    """The server does not get it, nor anything after it; neither side notices."""


class TcpRelay:
    """Passes connections on to a port of this machine. Data that `hang` holds passes with `resume`."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.attempts: list[float] = []
        """The times at which connections came, on the monotonic clock."""
        self.lock = threading.Lock()
        self._requests_pass = threading.Event()
        self._answers_pass = threading.Event()
        self._rule: tuple[bytes, Fate, Callable[[], object]] | None = None
        self._links: list[_Link] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.resume()
        self._serve()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self.resume()
        self.cut()

    def hang(self, *, answers_only: bool = False) -> None:
        """Pass nothing on any more, of new connections neither; or pass on no answers. Neither side notices."""
        self._answers_pass.clear()
        if not answers_only:
            self._requests_pass.clear()

    def resume(self) -> None:
        """Go on where `hang` has stopped."""
        self._answers_pass.set()
        self._requests_pass.set()

    def cut(self) -> None:
        """Reset all connections, on both sides."""
        with self.lock:
            links, self._links = self._links, []
        for link in links:
            link.reset_client()
            link.reset_server()

    def refuse(self) -> None:
        """Take no new connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def listen(self) -> None:
        """Take new connections again."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._serve()

    def once(self, pattern: bytes, fate: Fate, deed: Callable[[], object] = lambda: None) -> None:
        """At the next `pattern` from a client call `deed`, then treat the message as `fate` says."""
        self._rule = (pattern, fate, deed)

    def take_rule(self, data: bytes) -> tuple[Fate, Callable[[], object]] | None:
        """Return the fate of data from a client and the deed before it, if a rule holds for it; a rule holds once."""
        with self.lock:
            if self._rule is None or self._rule[0] not in data:
                return None
            (_, fate, deed), self._rule = self._rule, None
            return fate, deed

    def await_passage(self, *, answers: bool = False) -> None:
        (self._answers_pass if answers else self._requests_pass).wait()

    def _serve(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.attempts.append(time.monotonic())
            link = _Link(self, client)
            with self.lock:
                self._links.append(link)
            threading.Thread(target=link.pass_requests, daemon=True).start()


class _Link:
    """One connection."""

    def __init__(self, relay: TcpRelay, client: socket.socket) -> None:
        self._relay = relay
        self._client = client
        self._server: socket.socket | None = None
        self._fate: Fate | None = None

    def reset_client(self) -> None:
        _reset(self._client)

    def reset_server(self) -> None:
        if self._server is not None:
            _reset(self._server)

    def pass_requests(self) -> None:
        self._relay.await_passage()
        try:
            self._server = socket.create_connection(("127.0.0.1", self._relay.target))
        except OSError:
            self.reset_client()
            return
        threading.Thread(target=self._pass_answers, args=(self._server,), daemon=True).start()
        with contextlib.suppress(OSError):
            self._pass_requests(self._server)
        if self._fate is not Fate.LOST:
            _end(self._server)

    def _pass_requests(self, server: socket.socket) -> None:
        tail = b""
        while data := self._client.recv(_SIZE):
            self._relay.await_passage()
            rule = self._relay.take_rule(tail + data)
            if rule:
                self._fate, deed = rule
                deed()
                if self._fate is Fate.LOST:
                    self.reset_client()
                    return
            if self._fate is not Fate.HELD:
                server.sendall(data)
            tail = data[1 - len(COMMIT) :]

    def _pass_answers(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(_SIZE):
                self._relay.await_passage(answers=True)
                if self._fate is Fate.ANSWER_LOST:
                    self.reset_client()
                    return
                if self._fate is not Fate.ANSWER_HELD:
                    self._client.sendall(data)
        if self._fate is None:
            _end(self._client)


def _reset(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.shutdown(socket.SHUT_RD)  # wakes the thread that reads from it
    sock.close()


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
