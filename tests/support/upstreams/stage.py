"""An upstream whose answer to each request is an act that the test chooses and can change."""

import socket
from collections.abc import Callable

from support.upstreams.upstreams import OK, Conversation, RawUpstream

type Act = Callable[[Conversation], None]
"""The action of the upstream once it has read the head of a request; the connection is used again after that."""


def answer(conversation: Conversation) -> None:
    conversation.send(OK)


class Acting:
    """Answers each request by the current act, over connections that stay.

    `heads` are those of the requests, `asked` the addresses to which they came.
    """

    def __init__(self) -> None:
        self.act: Act = answer
        self.heads: list[bytes] = []
        self.asked: list[str] = []

    def _serve(self, conversation: Conversation) -> None:
        conversation.sock.settimeout(None)
        conversation.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            conversation.received = b""
            self.heads.append(conversation.read_head())
            self.asked.append(conversation.sock.getsockname()[0])
            self.act(conversation)


class Stage(Acting):
    """An upstream whose handler is `Acting`."""

    def __init__(self) -> None:
        super().__init__()
        self.upstream = RawUpstream(self._serve)
