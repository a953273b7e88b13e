"""The standing of a token, as `GET /token` tells those who hold it."""

from collections.abc import Sequence

from store.admission.decision import TokenStanding
from store.clock import NEVER, to_rfc3339


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
    return [{"of": owner, **limit.shown()} for owner, limit in sorted(owned, key=lambda pair: pair[1].place)]
