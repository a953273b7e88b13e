"""The shape of every kind of error; test_server.py has the errors that waitress answers itself."""

import logging
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from manage_api.contract import MAX_BODY
from store.management.projects import Projects
from store.store import Store

type Fault = Callable[[FlaskClient], TestResponse]

UNKNOWN = uuid.UUID("3f2b8a9e-6c1d-4e57-9a40-0d9b7c5f1e23")

FAULTS: dict[str, tuple[int, str, Fault]] = {
    "no token": (
        401,
        "unauthorized",
        lambda client: client.get("/manage/projects", headers={"Authorization": ""}),
    ),
    "no json": (
        400,
        "invalid_request",
        lambda client: client.post("/manage/projects", data="{", content_type="application/json"),
    ),
    "bad field": (400, "invalid_request", lambda client: client.post("/manage/projects", json={"name": 1})),
    "bad query": (400, "invalid_request", lambda client: client.get("/manage/tokens?projectId=x")),
    "bad range": (
        400,
        "invalid_request",
        lambda client: client.get("/docs/swagger-ui.css", headers={"Range": "bytes=99999999-"}),
    ),
    "unknown path": (404, "not_found", lambda client: client.get("/nothing")),
    "unknown file": (404, "not_found", lambda client: client.get("/docs/nothing")),
    "unknown path of ours": (404, "not_found", lambda client: client.get("/manage/nothing")),
    "unknown project": (404, "not_found", lambda client: client.get(f"/manage/projects/{UNKNOWN}")),
    "bad id": (404, "not_found", lambda client: client.get("/manage/tokens/x")),
    "slash at the end": (404, "not_found", lambda client: client.get("/manage/projects/")),
    "double slash": (404, "not_found", lambda client: client.get("/manage//projects")),
    "bad path": (404, "not_found", lambda client: client.get("/manage/projects/%ff%00")),
    "method": (405, "method_not_allowed", lambda client: client.put("/manage/projects")),
    "options": (405, "method_not_allowed", lambda client: client.options("/manage/projects")),
    "too large": (
        413,
        "request_too_large",
        lambda client: client.post("/manage/projects", data=b" " * (MAX_BODY + 1)),
    ),
    "media type": (
        415,
        "unsupported_media_type",
        lambda client: client.post("/manage/projects", data="x", content_type="text/plain"),
    ),
}


@pytest.fixture(params=FAULTS.values(), ids=list(FAULTS))
def fault(request: pytest.FixtureRequest) -> tuple[int, str, Fault]:
    return request.param  # type: ignore[no-any-return]


def check(answer: TestResponse, status: int, code: str) -> None:
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json
    assert body is not None
    assert set(body) - {"description"} == {"error", "code", "message"}
    assert body["code"] == code
    assert body["error"] == body["message"]
    assert isinstance(body["message"], str)
    request_id = answer.headers["X-LLM-Proxy-Request-Id"]
    assert uuid.UUID(request_id).version == 7
    assert answer.headers.getlist("X-Request-ID") == [request_id]


def test_every_error_has_the_same_shape(client: FlaskClient, fault: tuple[int, str, Fault]) -> None:
    status, code, cause = fault
    check(cause(client), status, code)


def test_an_inactive_project_is_described(client: FlaskClient, project_id: str) -> None:
    client.patch(f"/manage/projects/{project_id}", json={"is_active": False})
    answer = client.post("/manage/tokens", json={"project_id": project_id})
    check(answer, 403, "project_inactive")
    assert answer.json is not None
    assert answer.json["description"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/manage/projects", "GET, HEAD, POST"), ("/health", "GET, HEAD"), ("/docs", "GET, HEAD"), ("/", "GET, HEAD")],
)
def test_a_405_names_the_allowed_methods(client: FlaskClient, path: str, allowed: str) -> None:
    answer = client.delete(path)
    check(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == allowed


def test_a_store_that_is_down_is_a_503_with_its_cause_in_the_log(
    client: FlaskClient, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.database.close()
    store.database.engine.init(str(tmp_path / "no-such-folder" / "store.db"))
    check(client.get("/manage/projects"), 503, "store_unavailable")
    check(client.post("/manage/projects", json={"name": "n", "api_key": "k"}), 503, "store_unavailable")
    causes = [vars(record).get("cause") for record in caplog.records if record.levelno == logging.ERROR]
    assert causes == ["unable to open database file"] * 2


def test_a_bug_is_a_500_without_secrets(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def create(_self: Projects, _name: str, api_key: str) -> None:
        try:
            {}[api_key]  # type: ignore[index]
        except KeyError as error:
            raise RuntimeError(f"cannot use {api_key}") from error

    monkeypatch.setattr(Projects, "create", create)
    caplog.set_level(logging.DEBUG)
    answer = client.post("/manage/projects", json={"name": "n", "api_key": "sk-secret"})
    check(answer, 500, "internal_error")
    assert "sk-secret" not in answer.text
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "in create\n" in vars(record)["exception"]
    assert "KeyError\n" in vars(record)["exception"]
    assert "RuntimeError\n" in vars(record)["exception"]
    assert vars(record)["request_id"] == answer.headers["X-Request-ID"]
    assert "sk-secret" not in "".join(str(vars(record)) for record in caplog.records)


def test_good_answers_have_a_request_id(client: FlaskClient) -> None:
    seen = set()
    for path in ("/health", "/manage/projects", "/openapi.yaml"):
        with client.get(path, headers={"X-Request-ID": "mine", "X-LLM-Proxy-Request-Id": "mine"}) as answer:
            request_id = answer.headers["X-LLM-Proxy-Request-Id"]
            assert answer.headers.getlist("X-Request-ID") == [request_id]
            assert uuid.UUID(request_id).version == 7
            seen.add(request_id)
    assert len(seen) == 3


def test_an_error_to_head_has_no_body(client: FlaskClient) -> None:
    answer = client.head("/manage/nothing")
    assert (answer.status_code, answer.data) == (404, b"")
    assert "X-Request-ID" in answer.headers
