"""The list of models, for a token that may use some models only: `GET /v1/models` shows it these, and no others.

The list is read whole before any of it is passed on (`addon/protocol/model_list.py` filters it). What cannot be
filtered with certainty is not shown: the client gets an error.
"""

import logging
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

from mitmproxy import http

from addon import validation
from addon.exchange import Exchange
from addon.protocol import content_coding, model_list
from store.errors import ServiceUnavailable

MAX_LIST = 16 * 1024 * 1024
"""Bytes of a list, before and after it is decoded. OpenRouter's has 0.6 MB."""

_PATH = b"/v1/models"
_METHODS = frozenset({"GET", "HEAD"})
_SUCCESSES = range(200, 300)
_PARTS = frozenset({HTTPStatus.SWITCHING_PROTOCOLS, HTTPStatus.PARTIAL_CONTENT})
"""Statuses of responses that hold no whole list, and yet might show one."""

_OF_THE_WHOLE = frozenset(
    {
        b"accept-ranges",
        b"content-digest",
        b"content-encoding",
        b"content-length",
        b"content-md5",
        b"digest",
        b"etag",
        b"last-modified",
        b"repr-digest",
        b"transfer-encoding",
    }
)
"""The headers that are about the upstream's list, and would be wrong about the one that is shown."""

_UNREADABLE = "The upstream's list of models cannot be read, and this token may not see all of its models."

_log = logging.getLogger(__name__)


def is_filtered(exchange: Exchange, request: http.Request) -> bool:
    """Tell whether a request asks for the list of models with a token that may not see all of them."""
    if exchange.shown_models is None or request.method not in _METHODS:
        return False
    return unquote_to_bytes(validation.path_of(request)).removesuffix(b"/") == _PATH


def begin(exchange: Exchange, request: http.Request, response: http.Response) -> None:
    """Have a list read whole, given its headers. Raises ServiceUnavailable for a response that holds but a part."""
    if not is_filtered(exchange, request):
        return
    if response.status_code in _PARTS:
        raise _unreadable(exchange, f"status {response.status_code}")
    exchange.streamed, exchange.room = False, MAX_LIST
    if request.method == "HEAD" and _is_list(response):
        response.headers.fields = _kept(response)


def end(exchange: Exchange, request: http.Request, response: http.Response) -> None:
    """Filter a list that has come whole. Raises ServiceUnavailable for one that cannot be filtered."""
    content = response.raw_content
    if not content or not is_filtered(exchange, request) or not _is_list(response):
        return
    try:
        shown = model_list.shown(_decoded(content, response), exchange.shown_models or frozenset())
    except ValueError as error:
        raise _unreadable(exchange, str(error)) from None
    response.headers.fields = (*_kept(response), (b"Content-Length", str(len(shown)).encode()))
    response.raw_content = shown


def too_long(exchange: Exchange) -> ServiceUnavailable:
    """Return the error for a list of which more has come than there is room for."""
    return _unreadable(exchange, f"it has more than {MAX_LIST} bytes")


def _unreadable(exchange: Exchange, reason: str) -> ServiceUnavailable:
    _log.warning("a list of models cannot be filtered", extra={"request_id": exchange.request_id, "reason": reason})
    return ServiceUnavailable(_UNREADABLE)


def _is_list(response: http.Response) -> bool:
    return response.status_code in _SUCCESSES


def _decoded(content: bytes, response: http.Response) -> bytes:
    """Return a body without its content coding. Raises ValueError if it has none that is known, or is too long."""
    decoded = content_coding.decoded_start(content, response.headers.get("content-encoding", ""), MAX_LIST + 1)
    if len(decoded) > MAX_LIST:
        raise ValueError(f"it has more than {MAX_LIST} bytes")
    return decoded


def _kept(response: http.Response) -> tuple[tuple[bytes, bytes], ...]:
    return tuple([field for field in response.headers.fields if field[0].lower() not in _OF_THE_WHOLE])
