import logging
from collections.abc import Callable

import flask
import pytest
from flask.testing import FlaskClient
from support.stores.stores import refused_by_the_database

from manage_api.app import create_app
from manage_api.contract import MAX_BODY
from store.management import bulk
from store.network.client_address import parse_networks
from store.store import Store


def test_a_line_has_the_path_without_the_token_and_the_query(
    client: FlaskClient, token: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="manage_api.access_log")
    answer = client.get(f"/manage/tokens/{token['token']}?projectId=secret")
    [record] = [record for record in caplog.records if record.name == "manage_api.access_log"]
    fields = vars(record)
    assert (fields["method"], fields["path"], fields["status"]) == ("GET", "/manage/tokens/<token>", 400)
    assert fields["request_id"] == answer.headers["X-Request-ID"]
    assert 0 <= fields["duration_ms"] < 10_000
    assert "secret" not in str(fields)


def test_a_path_cannot_add_a_line(app: flask.Flask, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="manage_api.access_log")
    app.test_client().get("/manage/x%0ay")
    assert vars(caplog.records[-1])["path"] == "/manage/x%0Ay"


def test_scrapes_are_logged_at_level_debug_and_wrong_tokens_are_not(
    client: FlaskClient, anyone: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="manage_api.access_log")
    client.get("/metrics")
    anyone.get("/metrics")
    assert [record.levelno for record in caplog.records] == [logging.DEBUG, logging.INFO]


TOKEN = "8f14e45f-ceea-4672-9c6d-4cf0d7a1b5e1"


@pytest.mark.parametrize(
    ("status", "method", "query", "body", "content_type"),
    [
        (404, "GET", "", b"", None),
        (400, "GET", "?colour=red", b"", None),
        (400, "DELETE", "", b"{1}", None),
        (400, "PATCH", "", b"{", "application/json"),
        (413, "PATCH", "", b" " * (MAX_BODY + 1), "application/json"),
        (415, "PATCH", "", b"{}", "text/plain"),
        (405, "PUT", "", b"", None),
    ],
)
def test_a_token_sent_as_a_project_id_is_not_logged(
    client: FlaskClient,
    caplog: pytest.LogCaptureFixture,
    status: int,
    method: str,
    query: str,
    body: bytes,
    content_type: str | None,
) -> None:
    caplog.set_level(logging.INFO)
    path = f"/manage/projects/{TOKEN}{query}"
    assert client.open(path, method=method, data=body, content_type=content_type).status_code == status
    assert vars(caplog.records[-1])["path"] == "/manage/projects/<uuid>"


def test_a_project_that_is_there_is_logged(
    client: FlaskClient, project_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client.get(f"/manage/projects/{project_id}")
    assert vars(caplog.records[-1])["path"] == f"/manage/projects/{project_id}"


@pytest.mark.parametrize("part", ["projects", "tokens", "requests", "start"])
@pytest.mark.parametrize("write", [str.lower, str.upper])
def test_a_token_in_the_path_of_a_page_is_not_logged(
    anyone: FlaskClient, caplog: pytest.LogCaptureFixture, part: str, write: Callable[[str], str]
) -> None:
    caplog.set_level(logging.INFO)
    assert anyone.get(f"/{part}/{write(TOKEN)}").status_code == 303
    assert vars(caplog.records[-1])["path"] == f"/{part}/<uuid>"


PUBLIC_IDS = ("project_id", "token_id", "price_id")


class Lines:
    """Sends requests and returns the public ids in the line of each."""

    def __init__(self, client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
        self._client = client
        self._caplog = caplog

    def of(self, method: str, path: str, body: object = None, *, status: int = 200) -> dict[str, str]:
        self._caplog.clear()
        answer = self._client.open(path, method=method, json=body)
        assert answer.status_code == status, answer.text
        (line,) = (vars(record) for record in self._caplog.records if record.name == "manage_api.access_log")
        return {name: line[name] for name in PUBLIC_IDS if name in line}


@pytest.fixture
def lines(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> Lines:
    caplog.set_level(logging.INFO)
    return Lines(client, caplog)


def test_created_objects_are_logged_by_id(lines: Lines, client: FlaskClient) -> None:
    project = lines.of("POST", "/manage/projects", {"name": "One", "api_key": "sk-one"}, status=201)
    assert [project] == [{"project_id": each["id"]} for each in client.get("/manage/projects").get_json()]
    token = lines.of("POST", "/manage/tokens", project, status=201)
    assert [token] == [{"token_id": each["id"]} for each in client.get("/manage/tokens").get_json()]
    price = lines.of("PUT", "/manage/prices", {"model": "m", "rates": {"input": 1}})
    assert [price] == [{"price_id": each["id"]} for each in client.get("/manage/prices").get_json()]
    assert lines.of("PUT", "/manage/prices", {"model": "m", "rates": {"input": 2}}) == price
    assert lines.of("DELETE", f"/manage/prices/{price['price_id']}", status=204) == price


@pytest.mark.parametrize("name", ["id", "token"])
@pytest.mark.parametrize("write", [str.lower, str.upper])
def test_changed_objects_are_logged_by_id(
    lines: Lines, token: dict[str, str], name: str, write: Callable[[str], str]
) -> None:
    path, named = f"/manage/tokens/{write(token[name])}", {"token_id": token["id"]}
    assert lines.of("PATCH", path, {"max_requests": 5}) == named
    assert lines.of("DELETE", path, status=204) == named
    assert lines.of("POST", f"{path}/rotate", status=400) == {}
    assert lines.of("PATCH", path, {"is_active": True}) == named
    assert lines.of("POST", f"{path}/rotate") == named
    path, named = f"/manage/projects/{write(token['project_id'])}", {"project_id": token["project_id"]}
    assert lines.of("PATCH", path, {"name": "Two"}) == named
    assert lines.of("POST", f"{path}/tokens/revoke") == named
    assert lines.of("DELETE", path, status=204) == named


def test_objects_that_were_only_read_are_not_logged(lines: Lines, token: dict[str, str]) -> None:
    for folder in ("projects", "tokens", "prices", "usage", "requests"):
        assert lines.of("GET", f"/manage/{folder}") == {}
    assert lines.of("GET", f"/manage/tokens/{token['token']}") == {}
    assert lines.of("GET", f"/manage/projects/{token['project_id']}") == {}


@pytest.mark.parametrize("folder", ["projects", "tokens"])
def test_a_failure_that_changed_nothing_logs_no_ids(lines: Lines, token: dict[str, str], folder: str) -> None:
    """Above all it does not log a token's value in the place of a project's or a price's id."""
    mine = token["project_id"] if folder == "projects" else token["token"]
    assert lines.of("PATCH", f"/manage/{folder}/{mine}", {"created_at": "x"}, status=400) == {}
    assert lines.of("PATCH", f"/manage/{folder}/{mine}", {"is_active": 1}, status=400) == {}
    assert lines.of("PATCH", f"/manage/{folder}/{TOKEN}", {"is_active": True}, status=404) == {}
    assert lines.of("DELETE", f"/manage/{folder}/{TOKEN}", status=404) == {}
    assert lines.of("DELETE", f"/manage/prices/{token['token']}", status=404) == {}
    assert lines.of("DELETE", f"/manage/projects/{token['token']}", status=404) == {}
    assert lines.of("POST", f"/manage/projects/{token['token']}/tokens/revoke", status=404) == {}
    assert lines.of("POST", "/manage/tokens", {"project_id": TOKEN}, status=404) == {}


def test_a_change_that_may_be_made_in_part_is_logged_by_id(
    lines: Lines, client: FlaskClient, store: Store, project_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH", 2)
    ids = sorted(client.post("/manage/tokens", json={"project_id": project_id}).get_json()["id"] for _ in range(7))
    revoke = f"/manage/projects/{project_id}/tokens/revoke"
    with refused_by_the_database(store, ids):
        assert lines.of("POST", revoke, status=503) == {}
        assert lines.of("DELETE", f"/manage/projects/{project_id}", status=503) == {}
        assert lines.of("DELETE", f"/manage/tokens/{ids[0]}", status=503) == {}
    with refused_by_the_database(store, ids[4:5]):
        assert lines.of("DELETE", f"/manage/projects/{project_id}", status=503) == {"project_id": project_id}
        assert lines.of("POST", revoke) == {"project_id": project_id}


@pytest.mark.parametrize(
    ("peer", "forwarded", "client_address"),
    [
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
    ],
)
def test_the_client_address_comes_from_trusted_proxies_only(
    store: Store, caplog: pytest.LogCaptureFixture, peer: str, forwarded: str, client_address: str
) -> None:
    caplog.set_level(logging.INFO)
    anyone = create_app(store, "", parse_networks("10.0.0.0/8")).test_client()
    anyone.get("/manage/projects", headers={"X-Forwarded-For": forwarded}, environ_base={"REMOTE_ADDR": peer})
    assert vars(caplog.records[-1])["client"] == client_address
