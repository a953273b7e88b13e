"""The value that a token had before its present one: it may work, and name the token, for a while after a rotation."""

from collections.abc import Iterable, Mapping

from store import clock
from store.database import Database
from store.database.models import Token


def end(now: int, grace_seconds: int, expires_at: int) -> int | None:
    """Return when the present value of a token is to end that is rotated at a time (microseconds); None: at once.

    A grace is rounded up to a whole second, as the API shows no less, and ends with the token at the latest.
    """
    if not grace_seconds:
        return None
    exact = now + grace_seconds * clock.SECOND
    return min(-(-exact // clock.SECOND) * clock.SECOND, expires_at)


def working_until(previous_expires_at: int | None, expires_at: int, now: int) -> int | None:
    """Return when a previous value ends: on its own, or with its token. None where it does not work at `now`."""
    if previous_expires_at is None:
        return None
    ends_at = min(previous_expires_at, expires_at)  # the expiry may have been changed since the rotation
    return ends_at if now < ends_at else None


def ends(database: Database, rows: Iterable[Token]) -> Mapping[str, int]:
    """Return when previous values end that work now, by the ids of their tokens."""
    rotated = [row for row in rows if row.previous_expires_at is not None]
    now = database.now() if rotated else 0
    found = {row.id: working_until(row.previous_expires_at, row.expires_at, now) for row in rotated}
    return {token_id: ends_at for token_id, ends_at in found.items() if ends_at is not None}
