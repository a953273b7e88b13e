import asyncio

import httpx
import pytest
from mitmproxy.options import Options
from mitmproxy.tools.web.app import IndexHandler
from mitmproxy.tools.web.master import WebMaster
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from addon.inspector import web_page


@pytest.fixture(autouse=True)
def _handler_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IndexHandler, "render_string", IndexHandler.render_string)


def page(*, logged_in: bool) -> httpx.Response:
    """Return the page as mitmweb serves it."""

    async def main() -> httpx.Response:
        master = WebMaster(Options(), with_termlog=False)
        login = httpx.URL(master.web_url).params if logged_in else None
        server = HTTPServer(master.app)
        (sock,) = bind_sockets(0, "127.0.0.1")
        server.add_socket(sock)
        async with httpx.AsyncClient() as client:
            response = await client.get(f"http://127.0.0.1:{sock.getsockname()[1]}/", params=login)
        server.stop()
        await server.close_all_connections()
        return response

    return asyncio.run(main())


def test_the_style_is_added_after_mitmwebs_and_nothing_else_changes() -> None:
    style = ".flow-table > td::after { content: '\\200E' }\n"
    before = page(logged_in=True).text
    web_page.add_style(style)
    after = page(logged_in=True)
    added = f"<style>\n{style}</style>\n"
    assert after.text.replace(added, "", 1) == before
    assert f"{added}</head>" in after.text
    assert after.text.index(added) > after.text.rindex('rel="stylesheet"')
    (directive,) = (one for one in after.headers["Content-Security-Policy"].split(";") if "style-src" in one)
    assert "'unsafe-inline'" in directive


def test_the_page_still_requires_its_login() -> None:
    web_page.add_style("")
    assert page(logged_in=False).status_code == 403
