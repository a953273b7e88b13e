import pytest
from support.clients.page_client import Browser

from manage_api.app import create_app
from manage_api.pages.status import Deployment
from store import schema
from store.database.models import ProcessFigures
from store.metrics.process_figures import Snapshot
from store.runtime.settings import Settings
from store.store import Store
from store.version import __version__


def opened(store: Store, auth: dict[str, str], deployment: Deployment) -> Browser:
    token = auth["Authorization"].removeprefix("Bearer ")
    browser = Browser(create_app(store, token, deployment=deployment).test_client())
    browser.log_in(token)
    return browser


def test_the_store_and_versions_are_shown(browser: Browser) -> None:
    page = browser.open("/status")
    assert f"LLM Proxy {__version__}" in page.text
    assert "SQLite 3" in page.text
    assert schema.version() in page.text
    assert "of log" in page.text
    assert "mitmproxy 12" in page.text
    assert "No process of the proxy has reported in" in page.text
    assert "Settings" not in page.text
    assert "mitmweb" not in page.text


def test_each_process_is_shown_with_its_numbers(browser: Browser, store: Store) -> None:
    present = {"in_flight": 3, "websockets": 1, "queue admissions": 7, "queue slots": 8, "queue entries": 1234}
    with store.database.write():
        ProcessFigures.create(instance_id="01234567-8", figures=str(Snapshot({}, present, "1.2")))
        ProcessFigures.create(instance_id="89abcdef-0", figures="{}")
        ProcessFigures.create(instance_id="ended", figures=str(Snapshot({}, {}, "1.1")))
    text = browser.open("/status").text
    assert "01234567 serves 1.2 3 1 7 8 1,234" in text
    assert "89abcdef serves unknown 0 0 0 0 0" in text
    assert "1.1" not in text.partition("Versions and store")[0]


def test_settings_are_shown_without_secrets(
    store: Store, auth: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {
        "MANAGEMENT_TOKEN": "a-management-token-that-is-secret",
        "ENCRYPTION_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        "HTTPS_PROXY": "http://user:p4ssword@proxy.example:3128",
        "DATABASE_URL": "postgresql://user:p4ssword@db.example/gateway",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    page = opened(store, auth, Deployment(Settings.load().shown)).open("/status")
    assert not any(secret in page.html for secret in (*secrets.values(), "p4ssword", "user:"))
    assert "MANAGEMENT_TOKEN set" in page.text
    assert "HTTPS_PROXY set HTTP_PROXY not set" in page.text
    assert "DATABASE_URL postgresql://db.example/gateway" in page.text
    assert "LEDGER_DAYS 30" in page.text
    assert all(name.upper() in page.text for name in Settings.model_fields)


@pytest.mark.parametrize(
    ("mitmweb", "shown"),
    [
        ("http://127.0.0.1:8082", "http://127.0.0.1:8082"),
        ("http://0.0.0.0:8082", "http://localhost:8082"),
        ("http://[::]:8082", "http://localhost:8082"),
    ],
)
def test_mitmweb_is_linked_where_it_runs(store: Store, auth: dict[str, str], mitmweb: str, shown: str) -> None:
    page = opened(store, auth, Deployment({}, mitmweb)).open("/status")
    assert page.links["mitmweb"] == shown
