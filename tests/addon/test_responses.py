import json
import re

import pytest
from support.gateway.requests import fields

from addon import responses
from store import errors
from store.version import __version__

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.mark.parametrize(
    "error",
    [errors.InvalidToken(), errors.ProjectInactive(), errors.QuotaExhausted(), errors.MethodNotAllowed("GET")],
    ids=lambda error: error.code,
)
def test_an_error_is_answered_in_json_with_its_headers_and_both_ids(error: errors.GatewayError) -> None:
    response = responses.error(error, ID, "POST")
    assert response.status_code == error.status
    assert json.loads(response.text or "") == error.openai_body()
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == str(len(response.raw_content or b""))
    assert response.headers[responses.REQUEST_ID] == response.headers[responses.UPSTREAM_REQUEST_ID] == ID
    for name, value in error.headers.items():
        assert response.headers[name] == value


def test_a_response_to_head_has_the_length_and_no_body() -> None:
    response = responses.error(errors.NotFound(), ID, "HEAD")
    assert response.raw_content == b""
    assert response.headers["content-length"] == responses.error(errors.NotFound(), ID, "GET").headers["content-length"]


def test_ready_and_health_differ_by_their_status_alone() -> None:
    ready, health = (json.loads(make(ID, "GET").text or "") for make in (responses.ready, responses.health))
    assert ready == {**health, "status": "ready", "timestamp": ready["timestamp"]}


def test_health_follows_the_contract() -> None:
    body = json.loads(responses.health(ID, "GET").text or "")
    assert (body["status"], body["version"]) == ("ok", __version__)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["timestamp"])


def test_the_upstreams_request_id_is_kept() -> None:
    headers = fields(("x-request-id", "req_upstream"), ("x-llm-proxy-request-id", "forged"))
    responses.add_request_headers(headers, ID)
    assert headers.get_all(responses.UPSTREAM_REQUEST_ID) == ["req_upstream"]
    assert headers.get_all(responses.REQUEST_ID) == [ID]


def test_an_error_event_has_the_form_of_the_api() -> None:
    event = json.loads(responses.error_event(errors.QuotaExhausted(), "the-id", "mine", "left"))
    assert event == {
        "type": "error",
        "event_id": "event_the-id",
        "status": 429,
        "error": {**errors.QuotaExhausted().detail(), "event_id": "mine"},
        "stream_id": "left",
    }
    bare = json.loads(responses.error_event(errors.ProjectInactive(), "the-id", "", ""))
    assert (bare["error"]["event_id"], bare["error"]["message"]) == (None, "Project is inactive")
    assert "stream_id" not in bare


def test_a_cancel_event_names_its_response() -> None:
    event_id, event = responses.cancel_event("resp_1")
    assert json.loads(event) == {"type": "response.cancel", "event_id": event_id, "response_id": "resp_1"}
