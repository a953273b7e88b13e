"""The rules for `rate_limits` and `max_parallel_requests`, and the form in which the store keeps them."""

import json
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from store.errors import InvalidRequest
from store.limits.window import PERIODS

type Period = Literal["second", "minute", "hour", "day"]

MOST_WINDOWS = 8
MOST = 10**12
"""The highest limit."""


class RateLimit(TypedDict):
    """A window: so many requests in it, at most."""

    requests: int
    per: Period


class Limits(TypedDict, total=False):
    """The limits that a change names; None removes them."""

    rate_limits: Sequence[RateLimit] | None
    max_parallel_requests: int | None


def check(limits: Limits) -> None:
    """Check limits whose types the contract has checked. Raises InvalidRequest that names the place."""
    windows = limits.get("rate_limits") or ()
    if len(windows) > MOST_WINDOWS:
        raise InvalidRequest(f"The field 'rate_limits' must have at most {MOST_WINDOWS} windows.")
    periods: dict[str, int] = {}
    for place, window in enumerate(windows):
        name, number = f"rate_limits[{place}]", window["requests"]
        if window["per"] not in PERIODS:
            raise InvalidRequest(f"The field '{name}.per' must be one of {', '.join(PERIODS)}.")
        if not 1 <= number <= MOST:
            raise InvalidRequest(f"The field '{name}.requests' must be from 1 to {MOST}.")
        if window["per"] in periods:
            first = f"rate_limits[{periods[window['per']]}]"
            raise InvalidRequest(f"The field '{name}' is for the same window as '{first}': leave one out.")
        periods[window["per"]] = place
    parallel = limits.get("max_parallel_requests")
    if parallel is not None and not 1 <= parallel <= MOST:
        raise InvalidRequest(f"The field 'max_parallel_requests' must be from 1 to {MOST}, or null for no limit.")


def written(windows: Sequence[RateLimit] | None) -> str | None:
    """Return windows as the store keeps them; None for no windows."""
    return json.dumps(windows) if windows is not None else None


def read(text: str | None) -> Sequence[RateLimit] | None:
    """Return windows that `written` wrote."""
    found: Sequence[RateLimit] | None = None if text is None else json.loads(text)
    return found


def maxima(limits: Mapping[str, object]) -> Mapping[str, int]:
    """Return the limits by their kinds: `requests/minute`, `parallel`."""
    windows: Sequence[RateLimit] = limits.get("rate_limits") or ()  # type: ignore[assignment]
    found = {f"requests/{window['per']}": window["requests"] for window in windows}
    parallel = limits.get("max_parallel_requests")
    return {**found, "parallel": parallel} if isinstance(parallel, int) else found
