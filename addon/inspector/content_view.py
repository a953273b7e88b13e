"""Makes mitmweb show conversations as text; everything else is shown as mitmproxy would show it without this view."""

import re

from mitmproxy import contentviews, http
from mitmproxy.contentviews import Metadata

from addon import annotations
from addon.annotations import Side
from addon.inspector.conversation import rendering
from addon.inspector.conversation.layout import size
from addon.inspector.conversation.rendering import Format
from addon.protocol.content_coding import decoded_start

MAX_SHOWN = 2 * 1024 * 1024
"""Bytes of a body that are read: a view runs in the event loop, and delays the requests under way."""

_ABOVE_JSON = 2
_NOT_AT_ALL = -1
_EMPTY_LINE = re.compile("^(?=\n)", re.MULTILINE)
"""mitmweb gives an empty line no height."""
_EVENT_STREAM = "text/event-stream"


class ConversationContentview(contentviews.Contentview):
    """Shows chat completions, responses and embeddings as `conversation/` writes them."""

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        """Return a priority above those of JSON and plain text if path and content type are those of a conversation."""
        known = data and _format(metadata) and (_is_json(metadata) or metadata.content_type == _EVENT_STREAM)
        return _ABOVE_JSON if known else _NOT_AT_ALL

    def prettify(self, data: bytes, metadata: Metadata) -> str:
        """Return a body as text for people. Raises ValueError where mitmproxy is to show it unchanged."""
        form, message = _format(metadata), metadata.http_message
        if form is None or message is None:
            return _without_this_view(data, metadata)
        if data == message.raw_content:  # not compressed, or mitmproxy could not decode it: it may be cut
            data = decoded_start(data, message.headers.get("content-encoding", ""), MAX_SHOWN + 1)
        side: Side = "request" if isinstance(message, http.Request) else "response"
        passed = annotations.passed(metadata.flow, side) if isinstance(metadata.flow, http.HTTPFlow) else None
        cut = passed is not None or len(data) > MAX_SHOWN
        text = _text(form, side, data[:MAX_SHOWN], metadata, cut=cut)
        if text is None:
            return _without_this_view(data, metadata)
        return _EMPTY_LINE.sub(" ", _notice(len(message.raw_content or b""), passed) + text)


def _text(form: Format, side: Side, data: bytes, metadata: Metadata, *, cut: bool) -> str | None:
    if metadata.content_type == _EVENT_STREAM:
        return rendering.stream_text(form, data)
    if side == "request":
        return rendering.request_text(form, data, cut=cut)
    return rendering.response_text(form, data, cut=cut)


def _notice(kept: int, passed: int | None) -> str:
    """Return a line that says why a body is not whole, or nothing."""
    if passed is None:
        return ""
    if passed > kept:
        return f"[Only the first {size(kept)} of {size(passed)} were kept: WEB_BODY_COPY]\n\n"
    return f"[Broke off after {size(passed)}]\n\n"


def _without_this_view(data: bytes, metadata: Metadata) -> str:
    name = "json" if _is_json(metadata) and len(data) <= MAX_SHOWN else "raw"
    return contentviews.registry[name].prettify(data, metadata)


def _format(metadata: Metadata) -> Format | None:
    flow = metadata.flow
    return rendering.format_of(flow.request.path) if isinstance(flow, http.HTTPFlow) else None


def _is_json(metadata: Metadata) -> bool:
    return metadata.content_type == "application/json"
