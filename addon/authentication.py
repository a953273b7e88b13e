"""Reading the token of a request, and masking it on the flow, which is shown and saved.

Applications send `Authorization: Bearer <token>`. Browsers cannot set a header on a WebSocket; their SDKs send the
token as a subprotocol `openai-insecure-api-key.<token>` instead.
"""

from dataclasses import dataclass, field

from mitmproxy import http

from addon import wire
from store.errors import InvalidRequest, InvalidToken

MASK = "***"

# The last two never go upstream, and a client may have put its token there by mistake.
_CREDENTIALS = {b"authorization", b"proxy-authorization", b"cookie"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request sent to identify itself."""

    authorizations: list[str] = field(repr=False)
    subprotocol_token: str | None = field(repr=False)

    def token(self) -> str:
        """Return the one token that was sent. Raises InvalidRequest for several, InvalidToken for none."""
        if len(self.authorizations) > 1:
            raise InvalidRequest("Send one Authorization header only.")
        if self.authorizations:
            scheme, _, token = self.authorizations[0].partition(" ")
            if scheme.lower() == "bearer":
                return token.lstrip(" ")
        elif self.subprotocol_token is not None:
            return self.subprotocol_token
        raise InvalidToken


def take(request: http.Request) -> Credentials:
    """Return the credentials of a request and mask them on it. Never raises."""
    authorizations = request.headers.get_all("authorization")
    request.headers.fields = tuple(
        (name, _masked(value) if name.strip().lower() in _CREDENTIALS else value)
        for name, value in request.headers.fields
    )
    return Credentials(authorizations, _take_subprotocol(request))


def _masked(value: bytes) -> bytes:
    scheme = value.partition(b" ")[0]
    return scheme + b" " + MASK.encode() if scheme.lower() == b"bearer" else MASK.encode()


def _take_subprotocol(request: http.Request) -> str | None:
    offered = wire.subprotocols(request.headers)
    tokens = [name[len(wire.KEY_SUBPROTOCOL) :] for name in offered if wire.is_key_subprotocol(name)]
    if not tokens:
        return None
    masked = [wire.KEY_SUBPROTOCOL + MASK if wire.is_key_subprotocol(name) else name for name in offered]
    request.headers["sec-websocket-protocol"] = ", ".join(masked)
    return tokens[0] if wire.is_websocket_upgrade(request) else None
