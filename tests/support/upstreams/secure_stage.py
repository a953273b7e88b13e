"""An upstream with TLS on two addresses, as the model's API has: both answer by the current act of the test."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Self

from support.gateway.processes import DEADLINE, free_port
from support.upstreams.stage import Acting
from support.upstreams.upstreams import Conversation, RawUpstream

ADDRESSES = ("127.0.0.1", "127.0.0.2")


class SecureStage(Acting):
    """A stage on both addresses, at the same port."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        super().__init__()
        self.port = free_port()
        self._tls = tls
        self._upstreams: list[RawUpstream] = []

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def listen(self) -> None:
        """Begin to listen, or listen again."""
        self._upstreams = [RawUpstream(self._serve, self.port, host=host, tls=self._tls) for host in ADDRESSES]

    def stop(self) -> None:
        """End all connections, and take no new ones."""
        for upstream in self._upstreams:
            upstream.__exit__()

    def connections(self) -> list[Conversation]:
        """Return all connections opened since it listens."""
        return [conversation for upstream in self._upstreams for conversation in upstream.conversations]

    def hang_up(self) -> None:
        """End all connections."""
        for conversation in self.connections():
            with contextlib.suppress(OSError):
                conversation.sock.shutdown(socket.SHUT_RDWR)
            conversation.closed.wait(DEADLINE)

    @contextlib.contextmanager
    def presenting(self, tls: ssl.SSLContext) -> Iterator[None]:
        """Present another certificate on new connections, and end the others."""
        self._present(tls)
        try:
            yield
        finally:
            self._present(self._tls)

    def _present(self, tls: ssl.SSLContext) -> None:
        for upstream in self._upstreams:
            upstream.tls = tls
        self.hang_up()
