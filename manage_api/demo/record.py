"""What tests want to know afterwards: which requests arrived, with which headers, and how they ended.

`GET /_demo/requests` answers `{"count": n, "requests": [...]}`, oldest first; `count` goes on counting when
only the last `KEPT` requests are still listed. `DELETE` clears both. Neither needs a key, and both are for
this machine only. The Authorization header IS part of the record, so that tests can check which key arrived:
the demo's key is worth nothing, and a real one has no business here.
"""

from collections import deque
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.web import RequestHandler

from manage_api.demo.errors import ApiError, body_for

KEPT = 1000


@dataclass
class Entry:
    """One request. `id` is the answer's `x-request-id`, `path` the raw request target.

    Header names are in the case tornado gives them (`X-Demo-Words`), whatever was sent. `finished` means that
    the whole answer was handed to the socket (a WebSocket: that it was closed with a close frame), `hung_up`
    that the client went away before.
    """

    id: str
    method: str
    path: str
    headers: list[tuple[str, str]]
    finished: bool = False
    hung_up: bool = False


@dataclass
class Record:
    """The requests that arrived, the last `KEPT` of them in full."""

    count: int = 0
    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, request_id: str, request: HTTPServerRequest) -> Entry:
        """Record `request`; whoever answers it marks the entry's end."""
        headers = list(request.headers.get_all())
        entry = Entry(request_id, request.method or "", request.uri or "", headers)
        self.count += 1
        self.entries.append(entry)
        return entry

    def clear(self) -> None:
        """Forget everything."""
        self.count = 0
        self.entries.clear()

    def as_dict(self) -> dict[str, Any]:
        """Write the record down as JSON-ready data."""
        return {"count": self.count, "requests": [asdict(entry) for entry in self.entries]}


class RecordedRequests(RequestHandler):
    """`/_demo/requests`, which is not recorded itself."""

    def initialize(self, record: Record) -> None:
        """Take the record to show."""
        self.record = record

    def prepare(self) -> None:
        """Let in this machine only."""
        if not ip_address(self.request.remote_ip or "0.0.0.0").is_loopback:  # noqa: S104 - nobody's address, so refused
            raise ApiError(HTTPStatus.FORBIDDEN, "The record is for this machine only.")

    def get(self) -> None:
        """Show the record."""
        self.write(self.record.as_dict())

    def delete(self) -> None:
        """Clear the record."""
        self.record.clear()
        self.write(self.record.as_dict())

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer errors in the shape of all others."""
        self.finish(body_for(status_code, kwargs["exc_info"][1]))
