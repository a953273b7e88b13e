import logging

import flask
import pytest
from flask.testing import FlaskClient

from manage_api.contract import MAX_BODY


def test_line(client: FlaskClient, token: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="manage_api.access_log")
    answer = client.get(f"/manage/tokens/{token['token']}?projectId=secret")
    [record] = [record for record in caplog.records if record.name == "manage_api.access_log"]
    fields = vars(record)
    assert (fields["method"], fields["path"], fields["status"]) == ("GET", "/manage/tokens/<token>", 400)
    assert fields["request_id"] == answer.headers["X-Request-ID"]
    assert 0 <= fields["duration_ms"] < 10_000
    assert "secret" not in str(fields)


def test_forged_line(app: flask.Flask, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="manage_api.access_log")
    app.test_client().get("/manage/x%0ay")
    assert vars(caplog.records[-1])["path"] == "/manage/x%0Ay"


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
def test_a_token_in_the_place_of_a_project_is_not_logged(
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
