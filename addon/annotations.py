"""What a flow itself says about its request: names and public ids, for an operator's eyes and for a replay.

It stays on the flow in mitmweb and in flow files, where a secret must never stand.
"""

from typing import NamedTuple

from mitmproxy import http

from store.admission import Admitted

_TOKEN_ID = "llm_proxy_token_id"  # noqa: S105 - a field's name
_PROJECT_ID = "llm_proxy_project_id"
_PROJECT_NAME = "llm_proxy_project_name"


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
