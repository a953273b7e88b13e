"""The rules for `allowed_models`, `allowed_endpoints` and `allowed_ips`, and the form in which the store keeps them."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from store.errors import InvalidRequest
from store.limits.rate_limits import Limits
from store.network.addresses import network
from store.policies import endpoints

MOST_ENTRIES = 256

MAX_MODEL = 128
"""Characters of a model's name, or of a pattern for several."""


class Policies(TypedDict, total=False):
    """The policies that a change names; None allows everything, an empty list nothing."""

    allowed_models: Sequence[str] | None
    allowed_endpoints: Sequence[str] | None
    allowed_ips: Sequence[str] | None


class Rules(Limits, Policies, total=False):
    """The limits and the policies that a change names."""


def check(policies: Policies) -> None:
    """Check policies whose types the contract has checked. Raises InvalidRequest that names the place."""
    for name, fault_of in _FAULTS.items():
        entries: Sequence[str] = policies.get(name) or ()  # type: ignore[assignment]
        if len(entries) > MOST_ENTRIES:
            raise InvalidRequest(f"The field '{name}' must have at most {MOST_ENTRIES} entries.")
        for place, entry in enumerate(entries):
            fault = fault_of(entry)
            if fault is not None:
                raise InvalidRequest(f"The field '{name}[{place}]' {fault}")


def written(entries: Sequence[str] | None) -> str | None:
    """Return a list as the store keeps it; None for no policy."""
    return None if entries is None else json.dumps(entries)


def read(text: str | None) -> Sequence[str] | None:
    """Return a list that `written` wrote."""
    found: Sequence[str] | None = None if text is None else json.loads(text)
    return found


def _fault_of_model(name: str) -> str | None:
    if not 1 <= len(name) <= MAX_MODEL or not name.isprintable() or name != name.strip():
        return f"must be a model's name: 1 to {MAX_MODEL} printable characters, without blanks around them."
    return None


def _fault_of_ip(text: str) -> str | None:
    if network(text, strict=True) is None:
        return (
            "must be an address such as 10.1.2.3 or a network such as 10.0.0.0/8 or 2001:db8::/32; the bits behind a "
            "network's prefix must be 0."
        )
    return None


_FAULTS: Mapping[str, Callable[[str], str | None]] = {
    "allowed_models": _fault_of_model,
    "allowed_endpoints": endpoints.fault,
    "allowed_ips": _fault_of_ip,
}
