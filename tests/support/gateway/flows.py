"""Flows as mitmproxy keeps them, with the gateway's annotations."""

import json

from mitmproxy import http
from mitmproxy.test import tflow

from addon import annotations
from store.request import Holder
from support.gateway.requests import make_request, make_response

JSON = ("Content-Type", "application/json")
EVENT_STREAM = ("Content-Type", "text/event-stream; charset=utf-8")
TOKEN_ID = "8f14e45f-ceea-4672-9c6d-4cf0d7a1b5e1"


def admitted_flow(
    body: object = None,
    *,
    path: str = "/v1/chat/completions",
    project: str = "Search",
    token_id: str = TOKEN_ID,
    token_name: str | None = None,
) -> http.HTTPFlow:
    """Return a flow that was admitted, with a request of JSON."""
    flow = tflow.tflow(req=make_request(JSON, path=path, method="POST"))
    flow.request.raw_content = json.dumps(body).encode()
    annotations.write(flow, "0", Holder(token_id, token_name, "1", project))
    return flow


def answer(flow: http.HTTPFlow, content: object, *headers: tuple[str, str]) -> http.Response:
    """Put an answer on a flow: bytes as they are, anything else as JSON."""
    flow.response = make_response(*(headers or (JSON,)))
    flow.response.raw_content = content if isinstance(content, bytes) else json.dumps(content).encode()
    return flow.response
