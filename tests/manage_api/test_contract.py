"""What openapi.yaml promises, and that it is enforced."""

import json
from typing import Any

import pytest
import yaml
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.ledger import without_usage

from manage_api.contract import MAX_BODY, OPENAPI

KEPT_OPERATIONS = """
    get /health healthCheck 200
    get /manage/projects listProjects 200 401 500
    post /manage/projects createProject 201 400 401 500
    get /manage/projects/{projectId} getProject 200 401 404 500
    patch /manage/projects/{projectId} updateProject 200 400 401 404 500
    delete /manage/projects/{projectId} deleteProject 204 401 404 500
    post /manage/projects/{projectId}/tokens/revoke bulkRevokeProjectTokens 200 400 401 404 500
    get /manage/tokens listTokens 200 401 500
    post /manage/tokens createToken 201 400 401 404 500
    get /manage/tokens/{tokenId} getToken 200 401 404 500
    patch /manage/tokens/{tokenId} updateToken 200 400 401 404 500
    delete /manage/tokens/{tokenId} revokeToken 204 401 404 500
    get /v1/{path} proxyOpenAIGet 200 400 401 403 404 429 500 503
    post /v1/{path} proxyOpenAIPost 200 400 401 403 404 429 500 503
"""
"""Method, path, operation id and statuses that clients rely on; there may be more."""

KEPT_FIELDS = """
    HealthResponse status version timestamp
    Project id! name! is_active! created_at! updated_at!
    ProjectRequest name! api_key!
    ProjectUpdateRequest name api_key is_active
    Token token! project_id! expires_at! is_active! request_count! max_requests! created_at! last_used_at
    TokenRequest project_id! expires_in_days max_requests
    TokenUpdateRequest is_active max_requests
    Error code! message!
    ErrorResponse error! code! description
"""
"""Schemas with their fields, required ones marked; there may be more fields, but none more required."""

KEPT_RESPONSES = {
    "BadRequest",
    "Unauthorized",
    "Forbidden",
    "NotFound",
    "TooManyRequests",
    "InternalServerError",
}

SECRET = "sk-\u00e9-this-must-not-come-back"


@pytest.fixture(scope="module")
def document() -> Any:
    return yaml.safe_load(OPENAPI.read_text())


@pytest.mark.parametrize("line", KEPT_OPERATIONS.strip().splitlines())
def test_operation_is_kept(document: Any, line: str) -> None:
    method, path, operation_id, *statuses = line.split()
    operation = document["paths"][path][method]
    assert operation["operationId"] == operation_id
    assert set(statuses) <= set(operation["responses"])


@pytest.mark.parametrize("line", KEPT_FIELDS.strip().splitlines())
def test_schema_is_kept(document: Any, line: str) -> None:
    name, *fields = line.split()
    schema = document["components"]["schemas"][name]
    assert {field.rstrip("!") for field in fields} <= set(schema["properties"])
    assert {field.rstrip("!") for field in fields if field.endswith("!")} == set(schema.get("required", ()))


def test_other_names_are_kept(document: Any) -> None:
    components = document["components"]
    assert set(components["responses"]) >= KEPT_RESPONSES
    assert set(components["securitySchemes"]) == {"ManagementToken", "TokenAuth"}
    query = document["paths"]["/manage/tokens"]["get"]["parameters"]
    names = [components["parameters"][parameter["$ref"].rsplit("/", 1)[1]]["name"] for parameter in query]
    assert names == ["projectId", "activeOnly"]


def refused(client: FlaskClient, body: bytes, path: str = "/manage/projects") -> str:
    answer = client.post(path, data=body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["code"] == "invalid_request"
    return str(answer.json["message"])


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"name": "n", "api_key": "k"} x',
        b'{"name": NaN}',
        b'{"name": -Infinity}',
        b'{"name": "\xff"}',
        b'\xef\xbb\xbf{"name": "n", "api_key": "k"}',
        '{"name": "n", "api_key": "k"}'.encode("utf-16"),
        b'{"name": "\\ud800", "api_key": "k"}',
        b'{"name": "n", "api_key": "k", "unknown": ["\\udfff"]}',
        b'{"name": "\xed\xa0\x80", "api_key": "k"}',
        b'{"name": ' + b"9" * 5000 + b"}",
        b"[" * 200_000,
        b'{"name":' * 100_000,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_no_json(client: FlaskClient, body: bytes) -> None:
    assert refused(client, body) == "The body is not valid JSON in UTF-8."


@pytest.mark.parametrize("content_type", [None, "application/json"])
def test_empty_body(client: FlaskClient, content_type: str | None) -> None:
    answer = client.post("/manage/projects", content_type=content_type)
    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["message"] == "The body is missing: send a JSON object."


@pytest.mark.parametrize("value", [[], "text", 1, 1.5, True, None, [{"name": "n"}]])
def test_no_object(client: FlaskClient, value: object) -> None:
    assert refused(client, json.dumps(value).encode()).startswith("The body is invalid: A JSON object")


def test_missing_fields_are_all_named(client: FlaskClient) -> None:
    message = refused(client, b"{}")
    assert "'name' is missing" in message
    assert "'api_key' is missing" in message


@pytest.mark.parametrize("value", ["", " ", "\n\t\u00a0\u2003", "\x00", "a\x00b", "n" * 256, 1, True, None, []])
def test_bad_name(client: FlaskClient, project_id: str, value: object) -> None:
    assert "'name'" in refused(client, json.dumps({"name": value, "api_key": "k"}).encode())
    assert client.patch(f"/manage/projects/{project_id}", json={"name": value}).status_code == 400


@pytest.mark.parametrize(
    "value", ["", " ", "a b", "k\n", "\nk", "k\r", "k\tk", "k\x7f", "k\x00", "\u00e9", "k" * 4097, 1, None]
)
def test_bad_api_key(client: FlaskClient, project_id: str, value: object) -> None:
    assert "'api_key'" in refused(client, json.dumps({"name": "n", "api_key": value}).encode())
    assert client.patch(f"/manage/projects/{project_id}", json={"api_key": value}).status_code == 400


@pytest.mark.parametrize("value", ["1.0", "1e3", "true", "-1", "9223372036854775808", "1e400", '"1"', "null", "[]"])
def test_bad_max_requests(client: FlaskClient, token: dict[str, object], value: str) -> None:
    body = f'{{"project_id": "{token["project_id"]}", "max_requests": {value}}}'.encode()
    assert "'max_requests'" in refused(client, body, "/manage/tokens")
    answer = client.patch(f"/manage/tokens/{token['id']}", data=body, content_type="application/json")
    assert answer.status_code == 400
    assert without_usage(client.get(f"/manage/tokens/{token['id']}").json) == token


@pytest.mark.parametrize("value", ["1.0", "true", "-1", "2880001", "9" * 400, '"1"', "null"])
def test_bad_expires_in_days(client: FlaskClient, project_id: str, value: str) -> None:
    body = f'{{"project_id": "{project_id}", "expires_in_days": {value}}}'.encode()
    assert "'expires_in_days'" in refused(client, body, "/manage/tokens")


@pytest.mark.parametrize("value", ["", "x", 1, None, "123e4567e89b12d3a456426614174000"])
def test_bad_project_id(client: FlaskClient, value: object) -> None:
    assert "'project_id'" in refused(client, json.dumps({"project_id": value}).encode(), "/manage/tokens")


@pytest.mark.parametrize("value", ["true", 1, 0, None, []])
def test_bad_is_active(client: FlaskClient, token: dict[str, object], value: object) -> None:
    for path in (f"/manage/tokens/{token['id']}", f"/manage/projects/{token['project_id']}"):
        assert client.patch(path, json={"is_active": value}).status_code == 400


def test_one_bad_field_changes_nothing(client: FlaskClient, project_id: str) -> None:
    path = f"/manage/projects/{project_id}"
    before = client.get(path).json
    assert client.patch(path, json={"name": "New", "api_key": "sk-new", "is_active": "no"}).status_code == 400
    assert client.get(path).json == before


def test_last_of_repeated_keys_counts(client: FlaskClient) -> None:
    body = b'{"name": 1, "api_key": "k", "name": "last"}'
    answer = client.post("/manage/projects", data=body, content_type="application/json")
    assert answer.status_code == 201
    assert answer.json is not None
    assert answer.json["name"] == "last"


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "application/vnd.api+json", "x;="],
)
def test_other_media_types(client: FlaskClient, content_type: str | None) -> None:
    answer = client.post("/manage/projects", data=b"{", content_type=content_type)
    assert answer.status_code == 415


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;x"])
def test_media_type_of_json(client: FlaskClient, content_type: str) -> None:
    body = b'{"name": "n", "api_key": "k"}'
    assert client.post("/manage/projects", data=body, content_type=content_type).status_code == 201


@pytest.mark.parametrize("path", ["/manage/projects", "/manage/nothing"])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_size(client: FlaskClient, path: str, content_type: str) -> None:
    answer = client.post(path, data=b"x" * (MAX_BODY + 1), content_type=content_type)
    assert answer.status_code == 413


def test_largest_body(client: FlaskClient) -> None:
    body = b'{"name": "n", "api_key": "k"}'.ljust(MAX_BODY)
    assert client.post("/manage/projects", data=body, content_type="application/json").status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        {"name": "n", "api_key": SECRET},
        {"name": 1, "api_key": SECRET},
        {"api_key": SECRET},
        {"name": "n", "api_key": [SECRET]},
        {"name": SECRET * 99, "api_key": "k"},
    ],
)
def test_never_quotes_what_was_sent(client: FlaskClient, body: object) -> None:
    message = refused(client, json.dumps(body, ensure_ascii=False).encode())
    assert SECRET not in message
    assert "must-not-come-back" not in message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=st.fixed_dictionaries({}, optional={"name": json_values, "api_key": json_values}) | json_values)
def test_any_json_is_taken_or_refused(client: FlaskClient, body: object) -> None:
    answer = client.post("/manage/projects", data=json.dumps(body), content_type="application/json")
    assert answer.status_code in {201, 400}
