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

    def _converse(self, conversation: Conversation) -> None:
        reader = StrictReader(lambda: conversation.sock.recv(65536))
        try:
            while request := reader.next_request():
                self.seen.append(request)
                conversation.send(_answer(len(self.seen), request))
        except Fault as fault:
            self.malformed.append(str(fault))
        except Cut:
            if reader.begun is None:
                self.malformed.append("a head that was cut")
            else:
                self.cut.append(reader.begun)


def _answer(number: int, request: Request) -> bytes:
    content = json.dumps({"method": request.method, "target": request.target}).encode()
    head = f"HTTP/1.1 200 OK\r\n{MARK}: {number}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + (b"" if request.method == "HEAD" else content)
