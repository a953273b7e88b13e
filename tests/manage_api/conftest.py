from collections.abc import Callable, Iterator
from pathlib import Path

import flask
import pytest
from flask.testing import FlaskClient
from support.stores.stores import opened
from werkzeug.routing import Rule

from manage_api.app import create_app
from store.runtime.settings import Settings
from store.store import Store

MANAGEMENT_TOKEN = "management-token-of-the-tests"


@pytest.fixture(scope="session", autouse=True)
def _urls_are_compiled_once() -> Iterator[None]:
    """Werkzeug compiles the functions that build URLs for each application again, for 10 ms."""
    compiled: dict[tuple[object, ...], Callable[..., object]] = {}
    compile_builder = Rule._compile_builder  # noqa: SLF001 - a library without a public way

    def once(self: Rule, append_unknown: bool = True) -> Callable[..., object]:
        key = (self.rule, self.subdomain, append_unknown)
        if self.defaults or key not in compiled:
            compiled[key] = compile_builder(self, append_unknown)
        return compiled[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rule, "_compile_builder", once)
        yield


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    with opened(Settings.load()) as store:
        yield store


@pytest.fixture
def app(store: Store) -> flask.Flask:
    return create_app(store, MANAGEMENT_TOKEN)


@pytest.fixture
def auth() -> dict[str, str]:
    return {"Authorization": f"Bearer {MANAGEMENT_TOKEN}"}


@pytest.fixture
def anyone(app: flask.Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def client(app: flask.Flask, auth: dict[str, str]) -> FlaskClient:
    """A client that holds the management token."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = auth["Authorization"]
    return client


@pytest.fixture
def project_id(client: FlaskClient) -> str:
    answer = client.post("/manage/projects", json={"name": "One", "api_key": "sk-first"})
    return str(answer.json["id"])  # type: ignore[index]


@pytest.fixture
def token(client: FlaskClient, project_id: str) -> dict[str, object]:
    return client.post("/manage/tokens", json={"project_id": project_id}).get_json()  # type: ignore[no-any-return]
