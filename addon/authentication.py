"""Extracts the token of a request, and masks it on the flow: flows are shown and saved.

Applications send `Authorization: Bearer <token>`. The clients of Anthropic, Azure and Google send a header of their
own. Browsers cannot set a header on a WebSocket; their SDKs send the token as a subprotocol
`openai-insecure-api-key.<token>` instead. The token may have `sk-` in front: some tools refuse a key without it.

A token in the query is no credential. It is masked too, and does not go upstream.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from mitmproxy import http

from addon import websocket_handshake
from addon.websocket_handshake import KEY_SUBPROTOCOL, is_key_subprotocol
from store.errors import InvalidRequest, InvalidToken
from store.management.tokens import is_token_value

MASK = "***"
MASKED_VALUE = b"***token***"
"""Masks a token in the query. No client sends this value, so its parameter can be found when the query is forwarded."""

_PREFIX = "sk-"
_SHORTEST = 36
"""Characters of a token."""


@dataclass(slots=True)
class Credentials:
    """The credentials that a request was sent with."""

    authorizations: list[str] = field(default_factory=list, repr=False)
    keys: list[str] = field(default_factory=list, repr=False)
    """Values of the headers that carry the token where there is no Authorization."""
    subprotocols: list[str] = field(default_factory=list, repr=False)
    """Values of a WebSocket's subprotocols, which carry it too."""
    others: list[str] = field(default_factory=list, repr=False)
    """Values that never are the token."""

    def token(self) -> str:
        """Return the one token that was sent. Raises InvalidRequest for several, InvalidToken for none."""
        if len(self.authorizations) > 1:
            raise InvalidRequest("Send one Authorization header only.")
        bearers = [token for value in self.authorizations if (token := _bearer(value)) is not None]
        carriers = [*self.keys, *self.subprotocols]
        sent = [*bearers, *carriers, *self.others]
        if len(sent) > 1 and len(set(filter(is_token_value, sent))) > 1:
            raise InvalidRequest("Send one token only: there are different ones in the headers of this request.")
        usable = bearers if self.authorizations else carriers
        if not usable:
            raise InvalidToken
        # Among several there may be placeholders; on a replay all of them are masked.
        return next(filter(is_token_value, usable), MASK if MASK in usable else usable[0])


def extract(request: http.Request) -> Credentials:
    """Return the credentials of a request and mask them on it. Never raises."""
    credentials = Credentials()
    request.headers.fields = tuple(
        [
            (header[0], extract_value(header[1], credentials))
            if (extract_value := _EXTRACTORS.get(header[0].strip().lower()))
            else header
            for header in request.headers.fields
        ]
    )
    if credentials.subprotocols and not websocket_handshake.is_upgrade(request):
        credentials.others += credentials.subprotocols
        credentials.subprotocols = []
    if b"?" in request.data.path:
        request.data.path = _masked_target(request.data.path)
    return credentials


def _extract_authorization(value: bytes, credentials: Credentials) -> bytes:
    credentials.authorizations.append(_text(value))
    return _mask_scheme(value, credentials)


def _mask_scheme(value: bytes, _: Credentials) -> bytes:
    scheme = value.partition(b" ")[0]
    return scheme + b" " + MASK.encode() if scheme.lower() == b"bearer" else MASK.encode()


def _extract_key(value: bytes, credentials: Credentials) -> bytes:
    credentials.keys.append(_bare(_text(value).strip()))
    return MASK.encode()


def _extract_other(value: bytes, credentials: Credentials) -> bytes:
    credentials.others.append(_bare(_text(value).strip()))
    return MASK.encode()


def _extract_subprotocols(value: bytes, credentials: Credentials) -> bytes:
    offered = [name.strip() for name in _text(value).split(",")]
    keys = [name[len(KEY_SUBPROTOCOL) :] for name in offered if is_key_subprotocol(name)]
    if not keys:
        return value
    credentials.subprotocols += map(_bare, keys)
    masked = [KEY_SUBPROTOCOL + MASK if is_key_subprotocol(name) else name for name in offered]
    return ", ".join(masked).encode(errors="surrogateescape")


_EXTRACTORS: Mapping[bytes, Callable[[bytes, Credentials], bytes]] = {
    b"authorization": _extract_authorization,
    b"x-api-key": _extract_key,
    b"api-key": _extract_key,
    b"x-goog-api-key": _extract_key,
    b"xi-api-key": _extract_other,
    b"sec-websocket-protocol": _extract_subprotocols,
    # These never go upstream; a client may have put its token there by mistake.
    b"proxy-authorization": _mask_scheme,
    b"cookie": _mask_scheme,
}


def _masked_target(target: bytes) -> bytes:
    """Mask in a target's query each value that has the form of a token; leave all others as they are."""
    path, mark, query = target.partition(b"?")
    return path + mark + b"&".join([_masked_parameter(parameter) for parameter in query.split(b"&")])


def _masked_parameter(parameter: bytes) -> bytes:
    if len(parameter) < _SHORTEST:
        return parameter
    start = parameter.find(b"=") + 1  # a parameter without a name is all value
    value = unquote_to_bytes(parameter[start:].partition(b"#")[0]).decode("latin-1")
    return parameter[:start] + MASKED_VALUE if is_token_value(_bare(value)) else parameter


def _bearer(authorization: str) -> str | None:
    scheme, _, token = authorization.partition(" ")
    return _bare(token.lstrip(" ")) if scheme.lower() == "bearer" else None


def _bare(token: str) -> str:
    return token.removeprefix(_PREFIX)


def _text(value: bytes) -> str:
    return value.decode(errors="surrogateescape")
