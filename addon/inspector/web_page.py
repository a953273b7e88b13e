"""mitmweb's page, with a style of ours after its own. Only where mitmweb runs: this imports all of it.

The style stands in the page itself: mitmweb's Content-Security-Policy lets styles in, and no browser keeps an old one.
"""

from typing import Any

from mitmproxy.tools.web.app import IndexHandler
from tornado.web import RequestHandler

_HEAD_ENDS = b"</head>"


def add_style(style: str) -> None:
    """Put a style sheet at the end of the page's head, after those of mitmweb."""
    ending = b"<style>\n" + style.encode() + b"</style>\n" + _HEAD_ENDS

    def render_string(handler: RequestHandler, template_name: str, **values: Any) -> bytes:
        page = RequestHandler.render_string(handler, template_name, **values)
        return page.replace(_HEAD_ENDS, ending, 1)

    IndexHandler.render_string = render_string  # type: ignore[method-assign,assignment]
