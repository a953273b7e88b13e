import json
import re
from collections.abc import Callable

import pytest
from mitmproxy import http
from support.gateway.requests import fields, make_request

from addon import responses
from addon.exchange import Exchange
from store import errors
from store.limits.window import Standing
from store.version import __version__

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
EXCHANGE = Exchange(request_id=ID)
PAGES = ((b"Access-Control-Allow-Origin", b"https://app.example"), (b"Vary", b"Origin"))


@pytest.mark.parametrize(
    "error",
    [errors.InvalidToken(), errors.ProjectInactive(), errors.QuotaExhausted(), errors.MethodNotAllowed("GET")],
    ids=lambda error: error.code,
)
def test_an_error_is_answered_in_json_with_its_headers_and_both_ids(error: errors.GatewayError) -> None:
    response = responses.error(error, EXCHANGE, "POST")
    assert response.status_code == error.status
    assert json.loads(response.text or "") == error.openai_body()
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == str(len(response.raw_content or b""))
    assert response.headers[responses.REQUEST_ID] == response.headers[responses.UPSTREAM_REQUEST_ID] == ID
    for name, value in error.headers.items():
        assert response.headers[name] == value


def test_a_response_to_head_has_the_length_and_no_body() -> None:
    response = responses.error(errors.NotFound(), EXCHANGE, "HEAD")
    assert response.raw_content == b""
    assert (
        response.headers["content-length"]
        == responses.error(errors.NotFound(), EXCHANGE, "GET").headers["content-length"]
    )


def test_ready_and_health_differ_by_their_status_alone() -> None:
    ready, health = (json.loads(make(EXCHANGE, "GET").text or "") for make in (responses.ready, responses.health))
    assert ready == {**health, "status": "ready", "timestamp": ready["timestamp"]}


def test_health_follows_the_contract() -> None:
    body = json.loads(responses.health(EXCHANGE, "GET").text or "")
    assert (body["status"], body["version"]) == ("ok", __version__)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["timestamp"])


def test_the_upstreams_request_id_is_kept() -> None:
    headers = fields(("x-request-id", "req_upstream"), ("x-llm-proxy-request-id", "forged"))
    responses.add_request_headers(headers, EXCHANGE)
    assert headers.get_all(responses.UPSTREAM_REQUEST_ID) == ["req_upstream"]
    assert headers.get_all(responses.REQUEST_ID) == [ID]


def test_pages_read_a_response_as_the_gateway_allows_and_not_as_the_upstream_does() -> None:
    of_the_upstream = [
        ("access-control-allow-origin", "*"),
        ("Access-Control-Expose-Headers", "X-Request-ID"),
        ("ACCESS-CONTROL-ALLOW-CREDENTIALS", "true"),
        ("Access-Control-Of-Tomorrow", "1"),
    ]
    others = [("Vary", "Accept-Encoding"), ("X-Access-Control-Allow-Origin", "*")]
    for allowed in ((), PAGES):
        headers = fields(*of_the_upstream, *others)
        responses.add_request_headers(headers, Exchange(request_id=ID, cross_origin=allowed))
        ids = {responses.REQUEST_ID.encode(), responses.UPSTREAM_REQUEST_ID.encode()}
        assert [field for field in headers.fields if field[0] not in ids] == [*fields(*others).fields, *allowed]


@pytest.mark.parametrize("make", [responses.health, responses.ready])
def test_pages_may_read_each_of_the_gateways_own_responses(
    make: Callable[[Exchange, str], http.Response],
) -> None:
    exchange = Exchange(cross_origin=PAGES)
    refused = [errors.NotFound(), errors.RateLimited("Too many.", Standing(2, 0, 1_500_000))]
    for response in (make(exchange, "GET"), *(responses.error(error, exchange, "GET") for error in refused)):
        assert [field for field in response.headers.fields if field in PAGES] == [*PAGES]


def test_a_preflight_is_answered_without_a_body_and_its_length() -> None:
    request = make_request(("Origin", "https://app.example"), method="OPTIONS")
    response = responses.preflight(Exchange(request_id=ID, cross_origin=PAGES), request)
    assert (repr(response.status_code), response.raw_content) == ("204", b"")  # it stands in the log
    assert response.headers[responses.REQUEST_ID] == ID
    assert not {"content-length", "content-type"} & set(response.headers)


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
