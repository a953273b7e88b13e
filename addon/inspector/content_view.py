"""The view that mitmweb takes for conversations. What is none is shown as mitmproxy would show it without this view."""

import re

from mitmproxy import contentviews, http
from mitmproxy.contentviews import Metadata

from addon import annotations
from addon.annotations import Side
from addon.inspector import content_coding
from addon.inspector.conversation import rendering
from addon.inspector.conversation.layout import size
from addon.inspector.conversation.rendering import Endpoint

MAX_SHOWN = 2 * 1024 * 1024
"""Bytes of a body that are looked at: what a view does holds up the requests under way."""

_ABOVE_JSON = 2
_NOT_AT_ALL = -1
_EMPTY_LINE = re.compile("^(?=\n)", re.MULTILINE)
"""mitmweb gives a line no height that has nothing in it."""
_EVENT_STREAM = "text/event-stream"


class ConversationContentview(contentviews.Contentview):
    """Chat completions, responses and embeddings, as `conversation/` writes them."""

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        """Go before the views of JSON and of plain text where the path and the type say that it is a conversation."""
        known = data and _endpoint(metadata) and (_is_json(metadata) or metadata.content_type == _EVENT_STREAM)
        return _ABOVE_JSON if known else _NOT_AT_ALL

    def prettify(self, data: bytes, metadata: Metadata) -> str:
        """Write a body for people. Raises ValueError for what mitmproxy shows as it is."""
        endpoint, message = _endpoint(metadata), metadata.http_message
        if endpoint is None or message is None:
            return _as_without(data, metadata)
        if data == message.raw_content:  # not compressed, or mitmproxy could not decode it: it may be cut
            data = content_coding.decoded_start(message, MAX_SHOWN + 1)
        side: Side = "request" if isinstance(message, http.Request) else "response"
        passed = annotations.passed(metadata.flow, side) if isinstance(metadata.flow, http.HTTPFlow) else None
        cut = passed is not None or len(data) > MAX_SHOWN
        text = _text(endpoint, side, data[:MAX_SHOWN], metadata, cut=cut)
        if text is None:
            return _as_without(data, metadata)
        return _EMPTY_LINE.sub(" ", _notice(len(message.raw_content or b""), passed) + text)


def _text(endpoint: Endpoint, side: Side, data: bytes, metadata: Metadata, *, cut: bool) -> str | None:
    if metadata.content_type == _EVENT_STREAM:
        return rendering.stream_text(endpoint, data)
    if side == "request":
        return rendering.request_text(endpoint, data, cut=cut)
    return rendering.answer_text(endpoint, data, cut=cut)


def _notice(kept: int, passed: int | None) -> str:
    """Say in what way a body is not whole."""
    if passed is None:
        return ""
    if passed > kept:
        return f"[Only the first {size(kept)} of {size(passed)} were kept: WEB_BODY_COPY]\n\n"
    return f"[Broke off after {size(passed)}]\n\n"


def _as_without(data: bytes, metadata: Metadata) -> str:
    name = "json" if _is_json(metadata) and len(data) <= MAX_SHOWN else "raw"
    return contentviews.registry[name].prettify(data, metadata)


def _endpoint(metadata: Metadata) -> Endpoint | None:
    flow = metadata.flow
    return rendering.endpoint_of(flow.request.path) if isinstance(flow, http.HTTPFlow) else None


def _is_json(metadata: Metadata) -> bool:
    return metadata.content_type == "application/json"
