"""The standing of a token, as `GET /token` tells those who hold it."""

from collections.abc import Sequence

from store.admission.decision import TokenStanding
from store.clock import NEVER, to_rfc3339, to_rfc3339_exact
from store.limits.standing import LimitStanding
from store.limits.window import PERIODS

_ORDER = (*PERIODS, None)
"""The order in which limits are checked, by their periods."""


def body(standing: TokenStanding) -> dict[str, object]:
    """Return the contract's `TokenStanding`."""
    return {
        "name": standing.name,
        "expires_at": None if standing.expires_at >= NEVER else to_rfc3339(standing.expires_at),
        "max_requests": standing.max_requests,
        "request_count": standing.request_count,
        "limits": _limits(standing),
    }


def _limits(standing: TokenStanding) -> Sequence[dict[str, object]]:
    """Return the limits in the order in which they are checked: of each kind the token's before the project's."""
    owned = [("token", limit) for limit in standing.limits] + [("project", limit) for limit in standing.project_limits]
    return [_limit(owner, limit) for owner, limit in sorted(owned, key=lambda pair: _ORDER.index(pair[1].per))]


def _limit(owner: str, limit: LimitStanding) -> dict[str, object]:
    return {
        "of": owner,
        "kind": limit.kind,
        "per": limit.per,
        "limit": limit.limit,
        "used": limit.used,
        "reserved": limit.reserved,
        "remaining": limit.remaining,
        "resets_at": None if limit.resets_at is None else to_rfc3339_exact(limit.resets_at),
    }
