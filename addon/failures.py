"""Decisions about requests that fail on the way: the error that a client gets, and the time after which we give up.

They do not depend on how requests are transported.
"""

from enum import Enum, auto
from typing import Protocol

from addon.exchange import Exchange
from addon.validation import MALFORMED
from store.errors import (
    GatewayError,
    InvalidRequest,
    RequestTimeout,
    RequestTooLarge,
    ServiceUnavailable,
    UpstreamTimeout,
)

HEADERS_TIMEOUT = 30
"""Seconds from the first byte of a request to the end of its headers."""

LINGER = 30
"""Seconds for which the rest of a request is read and dropped, once it has been answered."""


class Limits(Protocol):
    """The settings that a request is bound to; times in seconds."""

    @property
    def connect_timeout(self) -> float:
        """From the first packet to a usable connection, TLS included."""

    @property
    def first_byte_timeout(self) -> float:
        """From the end of the request to the headers of the response."""

    @property
    def idle_timeout(self) -> float:
        """From one piece of a body to the next, in either direction."""

    @property
    def max_body(self) -> int:
        """Bytes that a request's body may have."""


class Failure(Enum):
    """The ways in which a request fails."""

    MALFORMED = auto()
    TOO_LARGE = auto()
    NO_RESPONSE = auto()
    """The upstream cannot be reached, or its response is no use."""
    CUT = auto()
    """The client is gone, or the response has begun."""


def error_for(exchange: Exchange, failure: Failure) -> GatewayError | None:
    """Return the error to answer with: the exchange's refusal if it has one. None if no answer is possible."""
    if exchange.refusal is not None:
        return exchange.refusal
    match failure:
        case Failure.MALFORMED:
            return InvalidRequest(MALFORMED)
        case Failure.TOO_LARGE:
            return RequestTooLarge()
        case Failure.NO_RESPONSE:
            return ServiceUnavailable()
        case Failure.CUT:
            return None


def idle_error(*, is_upstream: bool) -> GatewayError:
    """Return the error for a body that does not go on, as the upstream or else the client keeps it waiting."""
    return UpstreamTimeout() if is_upstream else RequestTimeout()
