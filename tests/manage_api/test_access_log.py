import logging

import flask
import pytest
from flask.testing import FlaskClient


def test_line(client: FlaskClient, token: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="manage_api.access_log")
    answer = client.get(f"/manage/tokens/{token['token']}?projectId=secret")
    [record] = [record for record in caplog.records if record.name == "manage_api.access_log"]
    fields = vars(record)
    assert (fields["method"], fields["path"], fields["status"]) == ("GET", "/manage/tokens/<token>", 200)
    assert fields["request_id"] == answer.headers["X-Request-ID"]
    assert 0 <= fields["duration_ms"] < 10_000
    assert "secret" not in str(fields)


def test_forged_line(app: flask.Flask, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="manage_api.access_log")
    app.test_client().get("/manage/x%0ay")
    assert vars(caplog.records[-1])["path"] == "/manage/x%0Ay"
