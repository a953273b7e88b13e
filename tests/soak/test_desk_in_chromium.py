"""The pages in a real browser: each of them as people see it, with a mouse and with a keyboard alone."""

from collections.abc import Iterator, Sequence

import pytest
from selenium.webdriver.common.keys import Keys
from support.clients.chromium import Chromium, needs_chromium
from support.clients.page_crawler import Crawler, Opened, kind_of
from support.gateway.gateway import MANAGEMENT_TOKEN, Gateway
from support.stores import desk
from support.stores.desk import Desk
from support.upstreams.upstreams import DemoUpstream

from manage_api.app import create_app

pytestmark = [pytest.mark.soak("manage_api/pages", "manage_api/words.py"), needs_chromium]

SCRIPTS = pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without JavaScript"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("desk")
    with DemoUpstream.start(folder) as upstream, Gateway.start(folder, upstream.url) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def filled(site: Gateway) -> Desk:
    with site.store() as store:
        return desk.fill(store)


@pytest.fixture(scope="module")
def pages(site: Gateway, filled: Desk) -> list[Opened]:
    """Pages of each kind, as an administrator finds them by links."""
    with Crawler.log_in(site.manage_url, filled.admin_token) as crawler:
        return list(crawler.open_all())


@SCRIPTS
@pytest.mark.parametrize("role", ["admin", "viewer"])
def test_every_page_is_sound_in_every_look(site: Gateway, filled: Desk, role: str, *, scripts: bool) -> None:
    """No error, nothing of another origin, nothing too wide, and nothing serious that axe finds."""
    token = filled.admin_token if role == "admin" else filled.viewer_token
    with Chromium.start(scripts=scripts) as browser:
        browser.open(f"{site.manage_url}/login")
        found = browser.defects() + browser.faults()
        browser.log_in(site.manage_url, token)
        for address in of_each_kind(site, token):
            browser.open(address)
            assert _has_run_scripts(browser) == scripts
            found += browser.defects() + browser.faults()
    assert [each for each in found if not _is_switched_on(each)] == []


def of_each_kind(site: Gateway, token: str) -> Sequence[str]:
    """Return the address of one page of each kind, as an administrator finds them by links, none of which fails."""
    with Crawler.log_in(site.manage_url, token) as crawler:
        kinds = {kind_of(page.address): page.address for page in crawler.open_all() if page.is_page}
    return list(kinds.values())


def _is_switched_on(defect: str) -> bool:
    """Tell whether it is the list that opens itself again: who wants that switches it on, and off again."""
    return defect.startswith("/requests?live=") and "meta-refresh" in defect


def _has_run_scripts(browser: Chromium) -> bool:
    """Tell whether the page's script has run, by times: it shows them as the reader's locale does."""
    times = browser.find_all("time")
    return bool(browser.find_all("time[title]")) if times else browser.scripts


def test_links_lead_to_every_page(site: Gateway, pages: list[Opened]) -> None:
    with site.store() as store:
        urls = create_app(store, MANAGEMENT_TOKEN).url_map
    every = {
        rule.endpoint
        for rule in urls.iter_rules()
        if rule.endpoint.startswith("pages.") and "GET" in (rule.methods or ())
    }
    opened = {urls.bind("desk").match(page.response.url.path)[0] for page in pages}
    seen_by_newcomers = {"pages.login.form", "pages.start.index", "pages.start.first"}  # see test_desk_in_use.py
    assert every - opened == seen_by_newcomers


def _is_outlined(browser: Chromium) -> bool:
    """Tell whether the focus is seen."""
    style = "const style = getComputedStyle(document.activeElement)"
    width, kind = browser.run(f"{style}; return [parseFloat(style.outlineWidth), style.outlineStyle]")
    return bool(width >= 2 and kind != "none")


@SCRIPTS
def test_a_keyboard_is_enough_to_log_in_and_to_make_a_project(site: Gateway, *, scripts: bool) -> None:
    with Chromium.start(scripts=scripts) as browser:
        browser.open(f"{site.manage_url}/login")
        browser.type(MANAGEMENT_TOKEN)  # the field has the focus
        browser.enter()
        for words in ("To the content", "Projects"):
            browser.tab_to(words)
            assert _is_outlined(browser)
        browser.enter()
        browser.tab_to("New project")
        assert _is_outlined(browser)
        browser.enter()
        browser.tab_to("name")
        browser.type("By keyboard", Keys.TAB, "sk-by-keyboard-0123456789")
        browser.tab_to("Create")
        assert _is_outlined(browser)
        browser.enter()
        assert "It is created." in browser.text
        assert browser.faults() == []
