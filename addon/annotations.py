"""Annotations of a flow: the names and public ids of its request, for operators and for a replay.

They stay on the flow in mitmweb and in flow files, so they never hold a secret.
"""

from typing import Any, Literal, NamedTuple

from mitmproxy import http

from store.ledger.usage import Metered, Source
from store.request import Holder

_REQUEST_ID = "llm_proxy_request_id"
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
    """The model that responded, and tokens; None is unknown. `is_estimated`: some of the tokens are an estimate."""

    model: str | None = None
    input: int | None = None
    output: int | None = None
    is_estimated: bool = False


def write(flow: http.HTTPFlow, request_id: str, holder: Holder) -> None:
    """Note the holder of a request, admitted or refused, and its id; a replay has one of its own."""
    flow.metadata.update(zip(_HOLDER, holder, strict=True))
    flow.metadata[_REQUEST_ID] = request_id


def read(flow: http.HTTPFlow) -> Holder | None:
    """Return the holder of a flow's request; None if that is not known."""
    found: list[Any] = [flow.metadata.get(name) for name in _HOLDER]
    return Holder(*found) if _TOKEN_ID in flow.metadata else None


def request_id(flow: http.HTTPFlow) -> str | None:
    """Return the request id of a flow, or of its last replay."""
    found: str | None = flow.metadata.get(_REQUEST_ID)
    return found


def note_used(flow: http.HTTPFlow, metered: Metered) -> None:
    """Note the model that responded, and its usage."""
    flow.metadata[_USED] = [*_used(metered)]


def add_used(flow: http.HTTPFlow, metered: Metered) -> None:
    """Add the usage of one more response over a WebSocket to that of those before it."""
    before, more = used(flow), _used(metered)
    flow.metadata[_USED] = [
        more.model or before.model,
        _sum(before.input, more.input),
        _sum(before.output, more.output),
        before.is_estimated or more.is_estimated,
    ]


def _used(metered: Metered) -> Used:
    units, is_estimated = metered.units, metered.source is Source.ESTIMATED
    return Used(metered.model, units.get("input_tokens"), units.get("output_tokens"), is_estimated)


def _sum(*known: int | None) -> int | None:
    counts = [count for count in known if count is not None]
    return sum(counts) if counts else None


def used(flow: http.HTTPFlow) -> Used:
    """Return the model that responded, and its usage, as far as they are known."""
    return Used(*flow.metadata.get(_USED, ()))


def note_passed(flow: http.HTTPFlow, side: Side, passed: int | None) -> None:
    """Note how many bytes of a truncated body have passed; None if the flow holds the whole body."""
    if passed is None:
        flow.metadata.pop(_PASSED[side], None)
    else:
        flow.metadata[_PASSED[side]] = passed


def passed(flow: http.HTTPFlow, side: Side) -> int | None:
    """Return how many bytes of a truncated body have passed; None if the body is whole, or not on the flow."""
    found: int | None = flow.metadata.get(_PASSED[side])
    return found


def is_truncated(flow: http.HTTPFlow) -> bool:
    """Tell whether the flow holds only the first part of its request's body, and must not be replayed."""
    return passed(flow, "request") is not None
