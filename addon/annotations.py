"""What a flow itself says about its request: names and public ids, for an operator's eyes and for a replay.

It stays on the flow in mitmweb and in flow files, where a secret must never stand.
"""

from typing import Literal, NamedTuple

from mitmproxy import http

from store.admission import Admitted

_TOKEN_ID = "llm_proxy_token_id"  # noqa: S105 - a field's name
_PROJECT_ID = "llm_proxy_project_id"
_PROJECT_NAME = "llm_proxy_project_name"
_PASSED = {"request": "llm_proxy_request_passed", "response": "llm_proxy_response_passed"}

type Side = Literal["request", "response"]
SIDES: tuple[Side, ...] = ("request", "response")


class Annotations(NamedTuple):
    """Whose request a flow is; None before it was admitted."""

    token_id: str | None
    project_id: str | None
    project_name: str | None


def write(flow: http.HTTPFlow, admitted: Admitted) -> None:
    """Note on a flow under which token it was admitted."""
    flow.metadata[_TOKEN_ID] = admitted.token_id
    flow.metadata[_PROJECT_ID] = admitted.project_id
    flow.metadata[_PROJECT_NAME] = admitted.project_name


def read(flow: http.HTTPFlow) -> Annotations:
    """Return what was noted on a flow."""
    return Annotations(*(flow.metadata.get(name) for name in (_TOKEN_ID, _PROJECT_ID, _PROJECT_NAME)))


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
