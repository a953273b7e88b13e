"""The addon for mitmweb: bounds the list of flows, adds comments, copies of streamed bodies and a content view."""

from pathlib import Path

from mitmproxy import contentviews, ctx, http
from mitmproxy.addonmanager import Loader

from addon import annotations
from addon.annotations import Side
from addon.inspector import body_copy, comment, flow_list
from addon.inspector.content_view import ConversationContentview
from addon.inspector.flow_list import FlowList
from store.runtime.settings import Settings

STYLE = Path(__file__).with_name("mitmweb.css")
COLUMNS = ["method", "path", "comment", "status", "size", "time"]


class OperatorView:
    """Shows requests to operators; added only where mitmproxy keeps a list of flows.

    Its hooks run after the gateway's and before mitmweb's own, which updates the browsers after each of them. They only
    observe: if one fails, mitmproxy logs that, and the request is not affected.
    """

    def __init__(self, settings: Settings, flows: FlowList) -> None:
        self._settings = settings
        self._flows = flows

    def load(self, _loader: Loader) -> None:
        """Add the content view, its style, and the columns unless the operator chose some."""
        contentviews.add(ConversationContentview)
        if "web_columns" not in ctx.options:
            return
        from addon.inspector import web_page  # noqa: PLC0415 - it imports all of mitmweb

        web_page.add_style(STYLE.read_text())
        if not ctx.options.has_changed("web_columns"):
            ctx.options.update(web_columns=COLUMNS)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Make room for one more flow; start to copy a streamed body."""
        flow_list.make_room(self._flows, self._settings.web_flows)
        body_copy.begin(flow.request, self._settings.web_body_copy)
        comment.write(flow)

    def request_spooled(self, flow: http.HTTPFlow) -> None:
        """Start to copy a body that was read before its request was admitted, and that is streamed from now on."""
        body_copy.begin(flow.request, self._settings.web_body_copy)
        comment.write(flow)

    def request(self, flow: http.HTTPFlow) -> None:
        """Put the copy of the request's body on the flow."""
        _put_copy(flow, "request", ended=True)
        comment.write(flow)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Start to copy a streamed response."""
        annotations.note_passed(flow, "response", None)  # that of the previous response, if this is a replay
        if flow.response:
            body_copy.begin(flow.response, self._settings.web_body_copy)

    def response(self, flow: http.HTTPFlow) -> None:
        """Put the copies on the flow; a response may come before the end of its request."""
        _put_copy(flow, "request", ended=False)
        _put_copy(flow, "response", ended=True)
        comment.write(flow)

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """Write the usage of all responses over a WebSocket."""
        comment.write(flow)

    def usage_noted(self, flow: http.HTTPFlow) -> None:
        """Write a usage that was noted outside of mitmproxy's hooks; mitmproxy has mitmweb show the row again."""
        comment.write(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        """Put the incomplete copies on the flow."""
        _put_copy(flow, "request", ended=False)
        _put_copy(flow, "response", ended=False)
        comment.write(flow)


def _put_copy(flow: http.HTTPFlow, side: Side, *, ended: bool) -> None:
    message = flow.request if side == "request" else flow.response
    if message is not None and body_copy.of(message):
        annotations.note_passed(flow, side, body_copy.put_on(message, ended=ended))
