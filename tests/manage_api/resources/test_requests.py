import json
import uuid
from typing import Any

import pytest
from flask.testing import FlaskClient
from support.openapi import DOCUMENT
from support.stores.ledger import NOON, PROJECT_ID, TOKEN_ID, open_request, refuse_request, settle_request

from store.errors import REQUEST_CODES
from store.ledger.usage import Source
from store.store import Store

OTHER = str(uuid.UUID(int=9))
UNKNOWN = str(uuid.UUID(int=10))
COLUMNS = {
    "usage_source": Source.OBSERVED,
    "upstream_request_id": "req_1",
    "session_id": None,
    "client": "203.0.113.7",
    "model_asked": "gpt-4o",
    "model": "gpt-4o-2024-08-06",
    "streamed": True,
    "duration_ms": 900,
    "request_bytes": 100,
    "input_tokens": 10,
    "output_tokens": 3,
}


def page(client: FlaskClient, query: str = "") -> Any:
    answer = client.get(f"/manage/requests{query}")
    assert answer.status_code == 200, answer.text
    return answer.json


def test_an_empty_ledger_has_an_empty_page(client: FlaskClient) -> None:
    assert page(client) == {"data": [], "next_cursor": None}


def test_a_request_is_shown_with_its_fields(client: FlaskClient, store: Store) -> None:
    row = settle_request(
        store,
        started_at=NOON + 5,
        first_byte_ms=200,
        web_searches=2,
        cost=43_500_000,
        cost_is_minimum=True,
        told_cost=44_100_000,
        budget_beyond=56_500_000,
        price='{"input": "2.5"}',
        **COLUMNS,
    )
    assert page(client)["data"] == [
        {
            "id": row["id"],
            "upstream_request_id": "req_1",
            "session_id": None,
            "started_at": "2024-10-04T12:00:00.000005Z",
            "project_id": PROJECT_ID,
            "project_name": None,
            "token_id": TOKEN_ID,
            "token_name": None,
            "client": "203.0.113.7",
            "method": "POST",
            "path": "/v1/chat/completions",
            "endpoint": "/v1/chat/completions",
            "model_asked": "gpt-4o",
            "model": "gpt-4o-2024-08-06",
            "status": 200,
            "code": None,
            "repeats": None,
            "streamed": True,
            "duration_ms": 900,
            "time_to_first_byte_ms": 200,
            "request_bytes": 100,
            "response_bytes": None,
            "input_tokens": 10,
            "cached_input_tokens": None,
            "output_tokens": 3,
            "reasoning_tokens": None,
            "input_audio_tokens": None,
            "output_audio_tokens": None,
            "web_searches": 2,
            "file_searches": None,
            "code_containers": None,
            "tool_calls": None,
            "images": None,
            "audio_seconds": None,
            "video_seconds": None,
            "cost_usd": "0.0000435",
            "cost_is_minimum": True,
            "budget_usd": "0.0001",
            "told_cost_usd": "0.0000441",
            "price": {"input": "2.5"},
            "usage_source": "observed",
        }
    ]


def test_a_running_request_has_no_result(client: FlaskClient, store: Store) -> None:
    open_request(store)
    (row,) = page(client)["data"]
    assert (row["usage_source"], row["status"], row["streamed"], row["cost_usd"], row["price"]) == (None,) * 5


def test_a_refused_request_is_shown_with_its_error(client: FlaskClient, store: Store, token: dict[str, str]) -> None:
    client.patch(f"/manage/tokens/{token['id']}", json={"name": "Ann's laptop"})
    mine = {"project_id": token["project_id"], "token_id": token["id"]}
    row = refuse_request(store, **mine, started_at=NOON + 5, client="203.0.113.7", repeats=12)
    (shown,) = page(client)["data"]
    known = {name: value for name, value in shown.items() if value is not None}
    assert known == {
        "id": row["id"],
        "started_at": "2024-10-04T12:00:00.000005Z",
        **mine,
        "project_name": "One",
        "token_name": "Ann's laptop",
        "client": "203.0.113.7",
        "method": "POST",
        "path": "/v1/chat/completions",
        "endpoint": "/v1/chat/completions",
        "status": 429,
        "code": "rate_limit_exceeded",
        "repeats": 12,
    }
    assert client.get(f"/manage/requests/{row['id']}").json == shown


def test_a_request_that_the_gateway_ended_is_shown_with_its_code(client: FlaskClient, store: Store) -> None:
    cut = settle_request(store, **COLUMNS, code="token_inactive", started_at=NOON)
    refused = refuse_request(store, code="token_inactive", status=401, started_at=NOON + 1)
    settle_request(store, started_at=NOON + 2)
    shown = page(client, "?code=token_inactive")["data"]
    assert [(row["id"], row["status"], row["code"], row["repeats"]) for row in shown] == [
        (refused["id"], 401, "token_inactive", 1),
        (cut["id"], 200, "token_inactive", None),
    ]
    assert (shown[1]["usage_source"], shown[1]["input_tokens"]) == ("observed", 10)
    assert client.get(f"/manage/requests/{cut['id']}").get_json()["code"] == "token_inactive"


@pytest.mark.parametrize("code", REQUEST_CODES)
def test_requests_are_found_by_each_code(client: FlaskClient, store: Store, code: str) -> None:
    row = settle_request(store, code=code)
    settle_request(store)
    assert [found["id"] for found in page(client, f"?code={code}")["data"]] == [row["id"]]


def test_the_contract_names_each_code() -> None:
    parameter = DOCUMENT["components"]["parameters"]["CodeFilter"]
    assert parameter["schema"]["enum"] == [*REQUEST_CODES]


def test_a_deleted_project_is_shown_with_its_name(client: FlaskClient, store: Store, token: dict[str, str]) -> None:
    settle_request(store, project_id=token["project_id"], token_id=token["id"])
    client.delete(f"/manage/projects/{token['project_id']}")
    assert [row["project_name"] for row in page(client)["data"]] == ["One"]
    (line,) = client.get("/manage/requests?format=jsonl").text.splitlines()
    assert json.loads(line)["project_name"] == "One"


def test_a_request_is_found_by_its_ids(client: FlaskClient, store: Store) -> None:
    older = settle_request(store, **COLUMNS)
    newer = settle_request(store, **{**COLUMNS, "upstream_request_id": "req/2?"})
    newest = settle_request(store, **COLUMNS)
    shown = {row["id"]: row for row in page(client)["data"]}
    for text, row in (
        (older["id"], older),
        (older["id"].upper(), older),
        ("req_1", newest),
        ("req%2F2%3F", None),  # no path takes a slash; the command line does
        (newer["id"], newer),
    ):
        answer = client.get(f"/manage/requests/{text}")
        assert (answer.status_code, answer.json) == (200, shown[row["id"]]) if row else answer.status_code == 404, text


@pytest.mark.parametrize("request_id", [UNKNOWN, "req_9", "REQ_1", "%00", "%ED%A0%80", "x" * 3000, "'", "%25"])
def test_an_unknown_id_is_not_found(client: FlaskClient, store: Store, request_id: str) -> None:
    settle_request(store, **COLUMNS)
    answer = client.get(f"/manage/requests/{request_id}")
    assert answer.status_code == 404
    assert answer.json is not None
    assert "only the first is found by its id" in answer.json["message"]


def test_pages_are_written_as_json_and_as_json_lines(client: FlaskClient, store: Store) -> None:
    make = [settle_request, refuse_request, refuse_request, settle_request, settle_request]
    ids = [made(store, started_at=NOON - number)["id"] for number, made in enumerate(make)]
    found, query = [], "?limit=2"
    while query:
        body = page(client, query)
        lines = client.get(f"/manage/requests{query}&format=jsonl")
        assert lines.headers["Content-Type"] == "application/jsonl"
        assert [json.loads(line) for line in lines.text.splitlines()] == body["data"]
        assert lines.headers.get("X-LLM-Proxy-Next-Cursor") == body["next_cursor"]
        found += [row["id"] for row in body["data"]]
        query = body["next_cursor"] and f"?limit=2&cursor={body['next_cursor']}"
    assert found == ids


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("status=429", "estimated"),
        ("status=403", "refused"),
        ("code=project_inactive", "refused"),
        ("status=403&code=project_inactive&projectId=" + OTHER, "refused"),
        ("endpoint=/v1/files", "refused"),
        ("usageSource=observed", "observed"),
        ("usageSource=open", "open"),
        ("model=gpt-4o", "observed"),
        ("endpoint=/v1/models&limit=1000", "unknown"),
        (f"projectId={PROJECT_ID}&tokenId={TOKEN_ID}&limit=1", "estimated"),
        ("from=2024-10-04T12:00:01Z&limit=001", "estimated"),
        ("to=2024-10-04T12:00:00Z", "unknown"),
    ],
)
def test_requests_are_filtered(client: FlaskClient, store: Store, query: str, names: str) -> None:
    rows = {
        "observed": settle_request(store, **COLUMNS),
        "estimated": settle_request(store, usage_source=Source.ESTIMATED, status=429, started_at=NOON + 2_000_000),
        "unknown": settle_request(store, endpoint="/v1/models", started_at=NOON - 5),
        "open": open_request(store),
        "refused": refuse_request(
            store,
            project_id=OTHER,
            token_id=OTHER,
            started_at=NOON + 1_000_000 - 1,
            status=403,
            code="project_inactive",
            endpoint="/v1/files",
        ),
    }
    assert [row["id"] for row in page(client, f"?{query}")["data"]] == [rows[names]["id"]]


def test_a_token_is_named_by_its_value_too(client: FlaskClient, store: Store, token: dict[str, str]) -> None:
    row = settle_request(store, token_id=token["id"])
    assert [found["id"] for found in page(client, f"?tokenId={token['token']}")["data"]] == [row["id"]]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=0", "'limit' must be at least 1."),
        ("limit=1001", "'limit' must be at most 1000."),
        ("limit=1_0", "digits 0 to 9 alone"),
        ("limit=%2B1", "digits 0 to 9 alone"),
        ("limit=%D9%A1", "digits 0 to 9 alone"),
        ("limit=", "'limit' must be an integer from 1 to 1000."),
        ("limit=x", "'limit' must be an integer from 1 to 1000."),
        ("limit=" + "9" * 5000, "'limit' must be an integer from 1 to 1000."),
        ("limit=x&status=99", "must be at least 100. The query parameter 'limit' must be an integer"),
        ("code=rate_limit", "must be one of invalid_token, token_inactive, token_expired, project_inactive"),
        ("usageSource=running", "must be one of observed, estimated, unknown, open."),
        ("cursor=x", "next_cursor of the page before"),
        ("cursor=" + "A" * 31 + "%0A", "next_cursor of the page before"),
        ("cursor=" + "A" * 31 + "%3D", "next_cursor of the page before"),
        ("format=csv", "must be one of json, jsonl."),
        ("limit=1&limit=2", "more than once"),
        ("cursor=" + "A" * 32 + "&cursor=" + "A" * 32, "more than once"),
    ],
)
def test_a_bad_query_is_refused(client: FlaskClient, query: str, message: str) -> None:
    answer = client.get(f"/manage/requests?{query}")
    assert answer.status_code == 400
    assert answer.json is not None
    assert message in answer.json["message"]


@pytest.mark.parametrize("cursor", ["A" * 32, "_" * 32, "f" + "-" * 31])
def test_every_cursor_of_the_right_form_is_accepted(client: FlaskClient, cursor: str) -> None:
    assert page(client, f"?cursor={cursor}")["data"] == []
