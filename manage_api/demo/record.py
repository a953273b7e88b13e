"""The record of requests for tests: which arrived, with which headers, and how they ended.

`GET /_demo/requests` answers `{"count": n, "requests": [...]}`, oldest first. `count` counts all requests, also when
only the last `KEPT` are still listed. `DELETE` clears both. Neither needs a key; both are for this machine only. The
Authorization header IS recorded, so that tests can check which key arrived: the demo's key protects nothing, and real
keys do not belong here.
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
    """One request. `id` is the response's `x-request-id`, `path` the raw request target.

    Header names are in tornado's case (`X-Demo-Words`). `finished` means that the whole response was written to the
    socket (a WebSocket: that it was closed with a close frame), `hung_up` that the client was gone before.
    """

    id: str
    method: str
    path: str
    headers: list[tuple[str, str]]
    finished: bool = False
    hung_up: bool = False


@dataclass
class Record:
    """The number of requests that arrived, and the last `KEPT` of them."""

    count: int = 0
    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, request_id: str, request: HTTPServerRequest) -> Entry:
        """Record `request`. Its handler marks the end in the entry."""
        headers = list(request.headers.get_all())
        entry = Entry(request_id, request.method or "", request.uri or "", headers)
        self.count += 1
        self.entries.append(entry)
        return entry

    def clear(self) -> None:
        """Clear the record."""
        self.count = 0
        self.entries.clear()

    def as_dict(self) -> dict[str, Any]:
        """Return the record as JSON-ready data."""
        return {"count": self.count, "requests": [asdict(entry) for entry in self.entries]}


class RecordedRequests(RequestHandler):
    """`/_demo/requests`, which is not recorded itself."""

    def initialize(self, record: Record) -> None:
        """Set the record to show."""
        self.record = record

    def prepare(self) -> None:
        """Accept requests from this machine only."""
        if not ip_address(self.request.remote_ip or "0.0.0.0").is_loopback:  # noqa: S104 - no address: refused
            raise ApiError(HTTPStatus.FORBIDDEN, "The record is for this machine only.")

    def get(self) -> None:
        """Show the record."""
        self.write(self.record.as_dict())

    def delete(self) -> None:
        """Clear the record."""
        self.record.clear()
        self.write(self.record.as_dict())

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send an error in OpenAI's form."""
        self.finish(body_for(status_code, kwargs["exc_info"][1]))
