"""Adds a style sheet to mitmweb's page, after its own. Imported only where mitmweb runs: this imports all of it.

The style is inline: mitmweb's Content-Security-Policy allows that, and no browser caches an old one. It replaces a
private part of mitmproxy: `IndexHandler.render_string`.
"""

from typing import Any

from mitmproxy.tools.web.app import IndexHandler
from tornado.web import RequestHandler

from addon.replacing import replace

_HEAD_ENDS = b"</head>"


def add_style(style: str) -> None:
    """Put a style sheet at the end of the page's head, after mitmweb's own."""
    ending = b"<style>\n" + style.encode() + b"</style>\n" + _HEAD_ENDS

    def render_string(handler: RequestHandler, template_name: str, **values: Any) -> bytes:
        page = RequestHandler.render_string(handler, template_name, **values)
        return page.replace(_HEAD_ENDS, ending, 1)

    replace(IndexHandler, "render_string", render_string)
