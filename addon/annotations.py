"""What a flow itself says about its request: names and public ids, for an operator's eyes and for a replay.

It stays on the flow in mitmweb and in flow files, where a secret must never stand.
"""

from typing import Any, Literal, NamedTuple

from mitmproxy import http

from store.holder import Holder
from store.usage import Metered

_TOKEN_ID = "llm_proxy_token_id"  # noqa: S105 - a field's name
_TOKEN_NAME = "llm_proxy_token_name"  # noqa: S105 - the same
_PROJECT_ID = "llm_proxy_project_id"
_PROJECT_NAME = "llm_proxy_project_name"
_HOLDER = (_TOKEN_ID, _TOKEN_NAME, _PROJECT_ID, _PROJECT_NAME)
_USED = "llm_proxy_used"
_PASSED = {"request": "llm_proxy_request_passed", "response": "llm_proxy_response_passed"}

type Side = Literal["request", "response"]
SIDES: tuple[Side, ...] = ("request", "response")


class Used(NamedTuple):
    """The model that answered, and tokens; None is unknown."""

    model: str | None
    input: int | None
    output: int | None


def write(flow: http.HTTPFlow, holder: Holder) -> None:
    """Note on a flow whose request it is, admitted or refused."""
    flow.metadata.update(zip(_HOLDER, holder, strict=True))


def read(flow: http.HTTPFlow) -> Holder | None:
    """Return whose request a flow is; None where that is not known."""
    found: list[Any] = [flow.metadata.get(name) for name in _HOLDER]
    return Holder(*found) if _TOKEN_ID in flow.metadata else None


def note_used(flow: http.HTTPFlow, metered: Metered) -> None:
    """Note on a flow which model answered, and what the upstream told that it took."""
    units = metered.units
    flow.metadata[_USED] = [metered.model, units.get("input_tokens"), units.get("output_tokens")]


def add_used(flow: http.HTTPFlow, metered: Metered) -> None:
    """Note on a WebSocket's flow what one more of its responses took, beside what those before it did."""
    before, units = used(flow), metered.units
    flow.metadata[_USED] = [
        metered.model or before.model,
        _sum(before.input, units.get("input_tokens")),
        _sum(before.output, units.get("output_tokens")),
    ]


def _sum(*known: int | None) -> int | None:
    counts = [count for count in known if count is not None]
    return sum(counts) if counts else None


def used(flow: http.HTTPFlow) -> Used:
    """Return which model answered, and what it took, as far as that is known."""
    return Used(*flow.metadata.get(_USED, (None, None, None)))


def note_passed(flow: http.HTTPFlow, side: Side, passed: int | None) -> None:
    """Note how many bytes of a body have passed of which the flow holds the first only; None if it holds them all."""
    if passed is None:
        flow.metadata.pop(_PASSED[side], None)
    else:
        flow.metadata[_PASSED[side]] = passed


def passed(flow: http.HTTPFlow, side: Side) -> int | None:
    """Return how many bytes of a truncated body have passed; None if the body is whole, or not on the flow at all."""
    found: int | None = flow.metadata.get(_PASSED[side])
    return found


def is_truncated(flow: http.HTTPFlow) -> bool:
    """Tell whether the flow holds the first part of its request's body only, so that it must not be sent again."""
    return passed(flow, "request") is not None
