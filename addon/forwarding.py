"""The messages as they are forwarded: copies of the flow's, so that the flow never holds the upstream key.

The copies also lack the few things that must not pass: tokens, hop-by-hop headers (RFC 9110, section 7.6.1), cookies,
the client's address, and headers that some servers take for the path.
"""

import functools
from collections.abc import Sequence

from mitmproxy import http
from mitmproxy.net.http import url

from addon import locations, validation
from addon.authentication import MASKED_VALUE
from addon.exchange import Destination, Exchange, Grant
from addon.protocol.reserved_endpoints import is_reserved
from addon.websocket_handshake import is_key_subprotocol, is_upgrade, names
from store.errors import DestinationRefused, EndpointNotAllowed, GatewayError, NotFound
from store.runtime.settings import Upstream

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
"""Names other addresses of the upstream (RFC 7838), where no token is valid."""

_OF_NO_BODY = frozenset({b"transfer-encoding"})  # mitmproxy would write the end of a body, which there is none of
_OF_AN_UPGRADE = frozenset({b"connection", b"upgrade"})
_CREDENTIALS = frozenset({b"authorization", b"api-key", b"x-api-key", b"x-goog-api-key", b"xi-api-key"})
"""The headers in which the clients of some provider send their key; here it is a token."""
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
        b"x-http-method",  # some servers take this one and the other two for the method
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-forwarded-for",
        b"x-original-url",  # some servers take this one and x-rewrite-url for the path
        b"x-real-ip",
        b"x-rewrite-url",
    }
)
_FORWARDED = b"x-forwarded-"

_OF_A_PART = frozenset({b"accept-encoding", b"if-modified-since", b"if-none-match", b"if-range", b"range"})
"""The headers of a client that wants a response in another form, in part, or only if it is new."""

# A Connection header may name any header as one of its hop; these frame or route the message and stay.
_NEVER_OF_A_HOP = frozenset({b"authorization", b"content-length", b"host", b"transfer-encoding"})


def refusal(request: http.Request, exchange: Exchange, destination: Destination | None) -> GatewayError | None:
    """Return why a request must not be sent to a destination, or None.

    An operator may have edited it since its admission. `destination`: None for a detour over another proxy.
    """
    grant = exchange.grant
    if grant is None:
        return exchange.refusal or GatewayError()
    if destination != grant.destination:
        return DestinationRefused()
    if _hosts(request) != {url.hostport(request.scheme, grant.destination.host, grant.destination.port)}:
        return DestinationRefused()  # behind one address there may be many hosts
    try:
        if validation.seen(request) != exchange.validated:
            validation.check(request)
            if validation.is_own(request):
                return NotFound(validation.NOTHING_THERE)  # the upstream's path of that name is not the API's
    except GatewayError as error:
        return error
    asked = request.method, validation.path_of(request)
    return EndpointNotAllowed() if is_reserved(*asked) and asked != exchange.admitted_for else None


def keyed_request(request: http.Request, grant: Grant, *, for_reading: bool = False) -> http.Request:
    """Return the copy of a request that goes upstream: with the key, at the upstream's path, body shared.

    `for_reading`: the gateway reads the response, and so asks for all of it, without a content coding.
    """
    keyed = _copy(request)
    fields = _upstream_fields(request, grant)
    keyed.data.headers = headers_of(_for_reading(fields) if for_reading else fields)
    target = request.data.path
    keyed.data.path = grant.path_prefix.encode() + (_without_tokens(target) if MASKED_VALUE in target else target)
    return keyed


def client_response(response: http.Response, upstream: Upstream | None, *, closes: bool) -> http.Response:
    """Return the copy of a response that goes to the client; the response itself where nothing changes.

    `upstream`: its origin, None for the gateway. `closes`: the connection ends with it, and a client of HTTP/1 gets
    `Connection: close`.
    """
    upgraded = response.status_code == _SWITCHING_PROTOCOLS
    fields = response.data.headers.fields
    names = {name.lower() for name, _ in fields}
    connection = tuple(response.headers.get_all("connection")) if b"connection" in names else ()
    dropped = _OF_THE_UPSTREAM | _dropped(connection, upgraded)
    if response.status_code == _NOT_MODIFIED:
        dropped |= _OF_NO_BODY
    has_location = upstream is not None and not locations.LOCATIONS.isdisjoint(names)
    says_close = closes and not upgraded
    if dropped.isdisjoint(names) and not has_location and not says_close:
        return response
    kept = tuple([field for field in fields if field[0].lower() not in dropped])
    if upstream is not None and has_location:
        kept = tuple([_relocated(field, upstream) for field in kept])
    if says_close:
        kept = (*kept, (b"Connection", b"close"))
    if kept == fields:
        return response
    passed = _copy(response)
    passed.data.headers = headers_of(kept)
    return passed


def headers_of(fields: tuple[tuple[bytes, bytes], ...]) -> http.Headers:
    """Return headers of these fields. mitmproxy's constructor checks each of them, at four times the cost."""
    headers = object.__new__(http.Headers)
    headers.fields = fields
    return headers


def is_final_response(response: http.Response, request: http.Request) -> bool:
    """Tell whether this is a final response to a request, in HTTP (RFC 9110, sections 2.5 and 15)."""
    if response.http_version not in _VERSIONS:
        return False
    if response.status_code == _SWITCHING_PROTOCOLS:
        return is_upgrade(request)
    return response.status_code in _FINAL


def _copy[Message: http.Message](message: Message) -> Message:
    """Copy a message, as far as its data; the body is shared. `copy.copy` takes several times as long."""
    copied, data = object.__new__(type(message)), object.__new__(type(message.data))
    vars(data).update(vars(message.data))
    vars(copied).update(vars(message), data=data)
    return copied


def _upstream_fields(request: http.Request, grant: Grant) -> tuple[tuple[bytes, bytes], ...]:
    of_the_hop = _dropped(tuple(request.headers.get_all("connection")), is_upgrade(request))
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


def _for_reading(fields: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[bytes, bytes], ...]:
    return (*(field for field in fields if field[0].lower() not in _OF_A_PART), (b"accept-encoding", b"identity"))


def _relocated(field: tuple[bytes, bytes], upstream: Upstream) -> tuple[bytes, bytes]:
    name, value = field
    return (name, locations.for_client(value, upstream)) if name.lower() in locations.LOCATIONS else field


def _without_tokens(target: bytes) -> bytes:
    """Take the masked parameters out of a target's query; leave all others as they are."""
    path, mark, query = target.partition(b"?")
    kept = [parameter for parameter in query.split(b"&") if parameter[parameter.find(b"=") + 1 :] != MASKED_VALUE]
    return path + mark + b"&".join(kept) if kept else path


@functools.lru_cache(maxsize=32)
def _dropped(connection: Sequence[str], upgraded: bool) -> frozenset[bytes]:
    """Return the headers that are of one hop, by the values of `Connection`."""
    named = {name.encode(errors="surrogateescape") for name in names(connection)}
    dropped = (_HOP_BY_HOP | named) - _NEVER_OF_A_HOP
    return dropped - _OF_AN_UPGRADE if upgraded else dropped


def _hosts(request: http.Request) -> set[str]:
    """Return every name under which a request asks for its host."""
    hosts = {*request.headers.get_all("host")}
    return hosts | {request.authority} if request.data.authority else hosts
