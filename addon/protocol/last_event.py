"""The last event of a stream that the gateway ends: each API's own error event, which SDKs raise as an error.

Sources: https://platform.openai.com/docs/api-reference/responses-streaming/error (its SDKs raise an event of any
endpoint that has `error`), https://platform.claude.com/docs/en/build-with-claude/streaming#error-events, and
https://platform.claude.com/docs/en/api/errors for the types.
"""

import json
from collections.abc import Mapping

from addon.protocol.endpoints import RESPONSES
from store.errors import GatewayError

_MESSAGES = "/v1/messages"
_ANTHROPIC_TYPES: Mapping[int, str] = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def last_event(endpoint: str, error: GatewayError, request_id: str) -> bytes:
    """Return the event that ends a stream of an endpoint with an error, as it is on the wire."""
    detail = error.detail()
    if endpoint == _MESSAGES:
        kind = _ANTHROPIC_TYPES.get(error.status, "api_error")
        about = {"type": kind, "message": error.message, "code": error.code}
        return _event("error", {"type": "error", "error": about, "request_id": request_id})
    if endpoint.startswith(RESPONSES):
        told = {"code": error.code, "message": error.message, "param": None}
        return _event("error", {"type": "error", **told, "error": detail})
    return _event("", {"error": detail})


def _event(name: str, data: Mapping[str, object]) -> bytes:
    line = f"event: {name}\n" if name else ""
    return f"{line}data: {json.dumps(data)}\n\n".encode()
