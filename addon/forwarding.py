"""What is written on the wire: copies of the flow's messages, so that the flow never holds the upstream key.

The copies also lack the few things that must not pass: tokens, headers of one hop (RFC 9110, section 7.6.1), cookies,
what tells about the client's address, and what would take the place of the path.
"""

from collections.abc import Iterable

from mitmproxy import http

from addon import locations
from addon.exchange import Grant
from store.runtime.settings import Upstream

KEY_SUBPROTOCOL = "openai-insecure-api-key."
MASKED_VALUE = b"***token***"
"""Stands on the flow for a token in the query. No client means it, so its parameter can be told from all others."""

_SWITCHING_PROTOCOLS = 101
_NOT_MODIFIED = 304
_FINAL = range(200, 1000)
_VERSIONS = frozenset({"HTTP/1.0", "HTTP/1.1", "HTTP/2.0"})

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
    }
)
_OF_THE_UPSTREAM = frozenset({b"alt-svc"})
"""Where else the upstream itself can be reached (RFC 7838): there no token is worth anything."""

_OF_NO_BODY = frozenset({b"transfer-encoding"})  # mitmproxy would end the body that there is none of
_OF_AN_UPGRADE = frozenset({b"connection", b"upgrade"})
_CREDENTIALS = frozenset({b"authorization", b"api-key", b"x-api-key", b"x-goog-api-key", b"xi-api-key"})
"""Where clients of one provider or another put what they hold as a key: here, a token."""
_OF_THE_CLIENT = _CREDENTIALS | frozenset(
    {
        b"cookie",
        b"cf-connecting-ip",
        b"client-ip",
        b"fastly-client-ip",
        b"forwarded",
        b"true-client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-original-forwarded-for",
        b"x-original-url",  # to some servers, this and the next one are the path, whatever the path is
        b"x-real-ip",
        b"x-rewrite-url",
    }
)
_FORWARDED = b"x-forwarded-"

# A Connection header may name any header as one of its hop; these frame or route the message and stay.
_NEVER_OF_A_HOP = frozenset({b"authorization", b"content-length", b"host", b"transfer-encoding"})


def keyed_request(request: http.Request, grant: Grant) -> http.Request:
    """Return the copy of a request that goes upstream: with the key, at the upstream's path, body shared."""
    keyed = _copy(request)
    keyed.data.headers = http.Headers(_upstream_fields(request, grant))
    target = request.data.path
    keyed.data.path = grant.path_prefix.encode() + (_without_tokens(target) if MASKED_VALUE in target else target)
    return keyed


def client_response(response: http.Response, upstream: Upstream | None, *, closes: bool) -> http.Response:
    """Return the copy of an answer that goes to the client; the answer itself where nothing changes.

    `upstream`: its origin, None for the gateway. `closes`: the connection ends with it, and the client (of HTTP/1)
    is told so.
    """
    upgraded = response.status_code == _SWITCHING_PROTOCOLS
    dropped = _OF_THE_UPSTREAM | _hop_by_hop(response.headers, upgraded=upgraded)
    if response.status_code == _NOT_MODIFIED:
        dropped |= _OF_NO_BODY
    fields = response.data.headers.fields
    kept = tuple(field for field in fields if field[0].lower() not in dropped)
    if upstream is not None and not locations.LOCATIONS.isdisjoint([name.lower() for name, _ in kept]):
        kept = tuple(_relocated(field, upstream) for field in kept)
    if closes and not upgraded:
        kept = (*kept, (b"Connection", b"close"))
    if kept == fields:
        return response
    passed = _copy(response)
    passed.data.headers = http.Headers(kept)
    return passed


def is_answer(response: http.Response, request: http.Request) -> bool:
    """Tell whether this is a final answer to a request, and no other protocol's (RFC 9110, sections 2.5 and 15)."""
    if response.http_version not in _VERSIONS:
        return False
    if response.status_code == _SWITCHING_PROTOCOLS:
        return is_websocket_upgrade(request)
    return response.status_code in _FINAL


def is_websocket_upgrade(request: http.Request) -> bool:
    """Tell whether this is a valid opening handshake of a WebSocket (RFC 6455, section 4.1)."""
    headers = request.headers
    return (
        request.method == "GET"
        and headers.get("upgrade", "").lower() == "websocket"
        and "upgrade" in _names(headers.get_all("connection"))
        and "sec-websocket-key" in headers
        and headers.get("sec-websocket-version") == "13"
    )


def subprotocols(headers: http.Headers) -> list[str]:
    """Return the WebSocket subprotocols that a client offers, in order."""
    return [name.strip() for value in headers.get_all("sec-websocket-protocol") for name in value.split(",")]


def is_key_subprotocol(name: str) -> bool:
    """Tell whether a subprotocol is a browser's way to send its token."""
    return name.lower().startswith(KEY_SUBPROTOCOL)


def _copy[Message: http.Message](message: Message) -> Message:
    """Copy a message, as far as its data; the body is shared. `copy.copy` takes several times as long."""
    copied, data = object.__new__(type(message)), object.__new__(type(message.data))
    vars(data).update(vars(message.data))
    vars(copied).update(vars(message), data=data)
    return copied


def _upstream_fields(request: http.Request, grant: Grant) -> Iterable[tuple[bytes, bytes]]:
    of_the_hop = _hop_by_hop(request.headers, upgraded=is_websocket_upgrade(request))
    authorization = b"Bearer " + grant.api_key.encode()
    fields = []
    for name, value in request.headers.fields:
        lowered = name.lower()
        if lowered in _OF_THE_CLIENT or lowered in of_the_hop or lowered.startswith(_FORWARDED):
            continue
        if lowered == b"sec-websocket-protocol":
            offered = [offer.strip() for offer in value.split(b",")]
            kept = [offer for offer in offered if not is_key_subprotocol(offer.decode("latin-1"))]
            if kept != offered:
                value = b", ".join(kept)  # noqa: PLW2901 - the header as it goes on
            if not value:
                continue
        fields.append((name, value))
    return (*fields, (b"authorization", authorization))


def _relocated(field: tuple[bytes, bytes], upstream: Upstream) -> tuple[bytes, bytes]:
    name, value = field
    return (name, locations.for_client(value, upstream)) if name.lower() in locations.LOCATIONS else field


def _without_tokens(target: bytes) -> bytes:
    """Take the masked parameters out of a target's query; leave all others as they are."""
    path, mark, query = target.partition(b"?")
    kept = [parameter for parameter in query.split(b"&") if parameter[parameter.find(b"=") + 1 :] != MASKED_VALUE]
    return path + mark + b"&".join(kept) if kept else path


def _hop_by_hop(headers: http.Headers, *, upgraded: bool) -> frozenset[bytes]:
    named = {name.encode(errors="surrogateescape") for name in _names(headers.get_all("connection"))}
    dropped = (_HOP_BY_HOP | named) - _NEVER_OF_A_HOP
    return dropped - _OF_AN_UPGRADE if upgraded else dropped


def _names(values: Iterable[str]) -> set[str]:
    return {name.strip().lower() for value in values for name in value.split(",")}
