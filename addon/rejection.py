"""The upstream's 401: it rejects the project's key, and may quote pieces of it.

A client would take it for a rejection of its own token, so it gets a 503 instead, with the error code of the upstream.
The log gets the upstream's text, without anything that may be a piece of the key.
"""

import logging
import re
from http import HTTPStatus

from mitmproxy import http

from addon import responses
from addon.exchange import Exchange
from addon.protocol import content_coding, json_fields
from store.errors import UpstreamKeyRejected

MAX_BODY = 64 * 1024
"""Bytes of a 401 that are read, before and after they are decoded."""

BODY_TIMEOUT = 2
"""Seconds that the body of a 401 is waited for, from its headers."""

PIECE = 4
"""Length of a common substring from which a word may quote the key. OpenAI quotes the key's last four characters."""

_MAX_WORDS = 100
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_WORD = re.compile(r"[\"'(]?[A-Za-z]{1,20}(?:['-][A-Za-z]{1,20}){0,3}[\"')]?[.,:;!?]?")
_WITHHELD = "***"
_SCOPES = ("OpenAI-Organization", "OpenAI-Project")
"""Headers of a request. OpenAI responds with a 401 if the key does not belong to the one that they name."""

_log = logging.getLogger(__name__)


def is_rejection(response: http.Response) -> bool:
    """Tell whether a response of the upstream rejects the key."""
    return response.status_code == HTTPStatus.UNAUTHORIZED


class Rejection:
    """A 401 whose body comes piece by piece."""

    def __init__(self, exchange: Exchange, request: http.Request, response: http.Response) -> None:
        """Read the headers of the response, and note them on the exchange."""
        exchange.note_response(response)
        self._exchange = exchange
        self._scopes = [name for name in _SCOPES if name in request.headers]
        self._coding = response.headers.get("content-encoding", "identity")
        self._body = bytearray()
        self._key = exchange.grant.api_key if exchange.grant else ""
        if self._quotes_key(exchange.upstream_request_id or ""):
            exchange.forget_upstream_id()

    def feed(self, data: bytes) -> bool:
        """Read the next bytes of the body. Returns True if more of them are of use."""
        self._body += data
        return len(self._body) < MAX_BODY

    def refusal(self) -> UpstreamKeyRejected:
        """Log the upstream's text, and return the error for the client."""
        body = self._decoded()
        document = json_fields.parse(body)
        error = json_fields.fields(document, "error")
        code = self._plain_code(json_fields.text(error, "code"))
        text = json_fields.text(error, "message") or json_fields.text(document, "message")
        self._log(code, self._redacted(text or body.decode(errors="replace")))
        refusal = UpstreamKeyRejected(self._message(), description=code)
        refusal.headers = {**refusal.headers, **self._headers()}
        return refusal

    def _headers(self) -> dict[str, str]:
        """Return the headers that every response of the upstream gets, and its own request id."""
        headers = {responses.REMOTE_DURATION: str(self._exchange.remote_ms)}
        if self._exchange.upstream_request_id:
            headers[responses.UPSTREAM_REQUEST_ID] = self._exchange.upstream_request_id
        return headers

    def _decoded(self) -> bytes:
        """Return the body; empty if it is longer than MAX_BODY, or cannot be decoded."""
        try:
            body = content_coding.decoded_start(bytes(self._body), self._coding, MAX_BODY)
        except ValueError:
            return b""
        return body if max(len(body), len(self._body)) < MAX_BODY else b""

    def _plain_code(self, code: str) -> str | None:
        return code if _CODE.fullmatch(code) and not self._quotes_key(code) else None

    def _message(self) -> str:
        text = UpstreamKeyRejected.text
        if not self._scopes:
            return text
        return f"{text} The cause may also be what this request names in {' and '.join(self._scopes)}."

    def _log(self, code: str | None, text: str) -> None:
        opened = self._exchange.opened
        fields = {
            "request_id": self._exchange.request_id,
            "project_id": opened.project_id if opened else None,
            "upstream": self._exchange.upstream.origin if self._exchange.upstream else None,
            "upstream_request_id": self._exchange.upstream_request_id,
            "code": code,
            "text": text,
        }
        extra = {name: value for name, value in fields.items() if value}
        _log.warning("the upstream rejected a project's key", extra=extra)

    def _redacted(self, text: str) -> str:
        """Return a text with everything but plain words withheld, and without pieces of the key."""
        words = text.split(maxsplit=_MAX_WORDS)[:_MAX_WORDS]
        return " ".join(word if _WORD.fullmatch(word) and not self._quotes_key(word) else _WITHHELD for word in words)

    def _quotes_key(self, text: str) -> bool:
        """Tell whether a text holds a piece of the key."""
        key, text = self._key.lower(), text.lower()
        pieces = (text[start : start + PIECE] for start in range(len(text) - PIECE + 1))
        return key in text or any(piece in key for piece in pieces)  # true of any text if the key is not known
