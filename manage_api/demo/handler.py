"""The base of all handlers of the demo upstream: the record, the key, errors, parameters and pacing."""

import asyncio
import hmac
import math
import secrets
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tornado.escape import json_decode
from tornado.iostream import StreamClosedError
from tornado.web import Finish, HTTPError, RequestHandler

from manage_api.demo.errors import ApiError, body_for, invalid_api_key, invalid_request, missing_parameter
from manage_api.demo.record import Record

if TYPE_CHECKING:
    from tornado.concurrent import Future  # generic for type checkers only


@dataclass
class StoredFile:
    """An uploaded file: the object that the API shows, and its bytes."""

    shown: dict[str, Any]
    content: bytes


@dataclass
class Upstream:
    """The state of one demo upstream."""

    api_key: str
    chunk_delay: float
    record: Record = field(default_factory=Record)
    files: dict[str, StoredFile] = field(default_factory=dict)


class ApiHandler(RequestHandler):
    """A request under `/v1`: recorded, then accepted with the right key only.

    Tests ask for a long or slow response with two headers: `X-Demo-Words` is its number of words, `X-Demo-Chunk-Delay`
    the seconds before each word (before the whole response if it is not streamed).
    """

    @cached_property
    def request_id(self) -> str:
        """The response's `x-request-id`."""
        return f"req_{secrets.token_hex(16)}"

    def initialize(self, upstream: Upstream) -> None:
        """Record the request first, so that failed ones are recorded too."""
        self.upstream = upstream
        self.entry = upstream.record.add(self.request_id, self.request)
        self.gone = asyncio.Event()

    def set_default_headers(self) -> None:
        """Identify every response, errors included."""
        self.set_header("x-request-id", self.request_id)

    def prepare(self) -> None:
        """Raise a 401 unless the request has the key."""
        scheme, _, key = self.request.headers.get("Authorization", "").partition(" ")
        right = hmac.compare_digest(key.strip().encode(), self.upstream.api_key.encode())
        if scheme.lower() != "bearer" or not right:
            raise invalid_api_key()

    def flush(self, include_footers: bool = False) -> "Future[None]":
        """Add the time until the response begins, in milliseconds."""
        self.set_header("openai-processing-ms", str(math.ceil(self.request.request_time() * 1000)))
        return super().flush(include_footers)

    def compute_etag(self) -> None:
        """Send no ETag, as OpenAI sends none."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send an error in OpenAI's form."""
        self.finish(body_for(status_code, kwargs["exc_info"][1]))

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Log errors of the server, not of the client."""
        if not isinstance(value, HTTPError):
            super().log_exception(typ, value, tb)

    def on_finish(self) -> None:
        """Record that the response was complete, unless the client had hung up."""
        self.entry.finished = not self.entry.hung_up

    def on_connection_close(self) -> None:
        """Record that the client hung up before the response was complete, and stop generating it."""
        self.entry.hung_up = True
        self.gone.set()

    def json_body(self) -> dict[str, Any]:
        """Parse the body, which must be a JSON object."""
        try:
            body = json_decode(self.request.body)
        except ValueError as error:
            raise invalid_request("We could not parse the JSON body of your request.") from error
        if not isinstance(body, dict):
            raise invalid_request("The body of your request must be a JSON object.")
        return body

    def required(self, body: dict[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
        """Return the required parameter `name` of `body`, of the type `kind`."""
        value = body.get(name)
        if value is None:
            raise missing_parameter(name)
        if not isinstance(value, kind):
            raise invalid_request(f"Invalid type for '{name}'.", code="invalid_type", param=name)
        return value

    @cached_property
    def wanted_words(self) -> int | None:
        """The number of words asked for by `X-Demo-Words`, if any."""
        value = self.request.headers.get("X-Demo-Words", "")
        if value and not (value.isascii() and value.isdigit() and int(value)):
            raise invalid_request("X-Demo-Words must be a whole number from 1.")
        return int(value) if value else None

    @cached_property
    def chunk_delay(self) -> float:
        """The seconds to wait before each word."""
        value = self.request.headers.get("X-Demo-Chunk-Delay", "")
        try:
            delay = float(value) if value else self.upstream.chunk_delay
        except ValueError:
            delay = math.nan
        if not 0 <= delay < math.inf:
            raise invalid_request("X-Demo-Chunk-Delay must be a number of seconds from 0.")
        return delay

    async def pause(self) -> None:
        """Wait for one chunk delay. Ends the request as soon as the client is gone."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.gone.wait(), self.chunk_delay)
        if self.gone.is_set():
            raise Finish

    async def paced(self, words: Iterable[str]) -> AsyncGenerator[str]:
        """Yield `words` one by one, with a pause before each."""
        for word in words:
            await self.pause()
            yield word

    async def send(self, chunk: str | bytes) -> None:
        """Send a part of the response and wait until the client reads it. Ends the request if the client is gone."""
        self.write(chunk)
        try:
            await self.flush()
        except StreamClosedError:
            self.on_connection_close()
        if self.gone.is_set():
            raise Finish

    async def stream(self, events: AsyncGenerator[str]) -> None:
        """Send server-sent `events` as they come, no faster than the client reads them."""
        _ = self.chunk_delay  # raises for a bad header before the response begins
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")
        async with aclosing(events):
            async for event in events:
                await self.send(event)


class NotFound(ApiHandler):
    """Any path that is not part of the API, with or without a key."""

    def prepare(self) -> None:
        """Raise the 404."""
        raise ApiError(HTTPStatus.NOT_FOUND, f"Invalid URL ({self.request.method} {self.request.path})")
