"""An upstream that reads strictly and keeps every request; each response is marked with its request."""

import json

from support.attacks.strict_http import Cut, Fault, Request, StrictReader
from support.upstreams.upstreams import Conversation, RawUpstream

MARK = "X-Seen"


class StrictUpstream(RawUpstream):
    """Takes requests over connections that it keeps open, and never mends one."""

    def __init__(self) -> None:
        super().__init__(self._converse)
        self.seen: list[Request] = []
        self.cut: list[Request] = []
        self.malformed: list[str] = []
        self._idle: set[int] = set()

    def is_done(self, conversation: Conversation) -> bool:
        """Tell whether a connection is closed, or has been idle since its last answer."""
        return conversation.closed.is_set() or id(conversation) in self._idle

    def _converse(self, conversation: Conversation) -> None:
        def receive() -> bytes:
            data = conversation.sock.recv(65536)
            self._idle.discard(id(conversation))
            return data

        reader = StrictReader(receive)
        try:
            while request := reader.next_request():
                self.seen.append(request)
                conversation.send(_answer(len(self.seen), request))
                if not reader.has_more:
                    self._idle.add(id(conversation))
        except Fault as fault:
            self.malformed.append(str(fault))
        except Cut:
            if reader.begun is None:
                self.malformed.append("a head that was cut")
            else:
                self.cut.append(reader.begun)
        finally:
            self._idle.discard(id(conversation))


def _answer(number: int, request: Request) -> bytes:
    content = json.dumps({"method": request.method, "target": request.target}).encode()
    head = f"HTTP/1.1 200 OK\r\n{MARK}: {number}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + (b"" if request.method == "HEAD" else content)
