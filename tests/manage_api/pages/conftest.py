"""Pages as a browser without JavaScript sees them: cookies, forms and links, in the application itself."""

from collections.abc import Callable

import flask
import pytest
from support.clients.page_client import Browser

from manage_api.app import create_app
from store.management.admins import Admins, Role
from store.network.client_address import parse_networks
from store.store import Store

MANAGEMENT_TOKEN = "management-token-of-the-tests"


@pytest.fixture
def browser(app: flask.Flask) -> Browser:
    """A browser in which root has logged in."""
    browser = Browser(app.test_client())
    browser.log_in(MANAGEMENT_TOKEN)
    return browser


@pytest.fixture
def viewer(app: flask.Flask, store: Store) -> Browser:
    """A browser in which a viewer has logged in."""
    _, token = Admins(store).create("reader", Role.VIEWER)
    browser = Browser(app.test_client())
    browser.log_in(token)
    return browser


@pytest.fixture
def stranger(app: flask.Flask) -> Browser:
    """A browser without a session."""
    return Browser(app.test_client())


@pytest.fixture
def behind_tls(store: Store) -> Callable[[], Browser]:
    """Make browsers whose requests come through a trusted proxy that reports https."""
    app = create_app(store, MANAGEMENT_TOKEN, parse_networks("127.0.0.1"))

    def make() -> Browser:
        return Browser(app.test_client(), headers={"X-Forwarded-Proto": "https"})

    return make
