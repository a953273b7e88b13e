"""The promises of openapi.yaml, and their enforcement."""

import json
import re
import unicodedata

import flask
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.openapi import DOCUMENT
from support.stores.ledger import without_usage

from manage_api.contract import MAX_BODY
from store.errors import LEDGER_CODES

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
    post /manage/tokens/{tokenId}/rotate rotateToken 200 400 401 404 500
    get /v1/{path} proxyOpenAIGet 200 400 401 403 404 429 500 503
    post /v1/{path} proxyOpenAIPost 200 400 401 403 404 429 500 503
"""
"""Method, path, operation id and statuses that clients rely on; there may be more."""

KEPT_FIELDS = """
    HealthResponse status version timestamp
    Project id! name! is_active! created_at! updated_at! rate_limits max_parallel_requests limits
    ProjectRequest name! api_key! rate_limits max_parallel_requests
    ProjectUpdateRequest name api_key is_active rate_limits max_parallel_requests limits
    Token token! project_id! expires_at! is_active! request_count! max_requests! created_at! last_used_at limits
    TokenRequest project_id! expires_in_days max_requests rate_limits max_parallel_requests
    TokenUpdateRequest is_active max_requests rate_limits max_parallel_requests limits
    TokenRotateRequest grace_seconds
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


@pytest.mark.parametrize("line", KEPT_OPERATIONS.strip().splitlines())
def test_each_operation_is_kept(line: str) -> None:
    method, path, operation_id, *statuses = line.split()
    operation = DOCUMENT["paths"][path][method]
    assert operation["operationId"] == operation_id
    assert set(statuses) <= set(operation["responses"])


@pytest.mark.parametrize("line", KEPT_FIELDS.strip().splitlines())
def test_each_schema_is_kept(line: str) -> None:
    name, *fields = line.split()
    schema = DOCUMENT["components"]["schemas"][name]
    assert {field.rstrip("!") for field in fields} <= set(schema["properties"])
    assert {field.rstrip("!") for field in fields if field.endswith("!")} == set(schema.get("required", ()))


def test_requests_are_filtered_by_the_codes_that_they_may_have() -> None:
    assert DOCUMENT["components"]["parameters"]["CodeFilter"]["schema"]["enum"] == [*LEDGER_CODES]


def test_other_names_are_kept() -> None:
    components = DOCUMENT["components"]
    assert set(components["responses"]) >= KEPT_RESPONSES
    assert set(components["securitySchemes"]) == {"ManagementToken", "TokenAuth"}
    query = DOCUMENT["paths"]["/manage/tokens"]["get"]["parameters"]
    names = [components["parameters"][parameter["$ref"].rsplit("/", 1)[1]]["name"] for parameter in query]
    assert names == ["projectId", "activeOnly", "expiresBefore"]


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
def test_invalid_json_is_refused(client: FlaskClient, body: bytes) -> None:
    assert refused(client, body) == "The body is not valid JSON in UTF-8."


@pytest.mark.parametrize("content_type", [None, "application/json"])
def test_an_empty_body_is_refused(client: FlaskClient, content_type: str | None) -> None:
    answer = client.post("/manage/projects", content_type=content_type)
    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["message"] == "The body is missing: send a JSON object."


@pytest.mark.parametrize("value", [[], "text", 1, 1.5, True, None, [{"name": "n"}]])
def test_a_body_that_is_no_object_is_refused(client: FlaskClient, value: object) -> None:
    assert refused(client, json.dumps(value).encode()).startswith("The body must be an object, not ")


def test_missing_fields_are_all_named(client: FlaskClient) -> None:
    assert refused(client, b"{}") == "The body lacks the required fields 'name', 'api_key'."


@pytest.mark.parametrize("value", ["", " ", "\n\t\u00a0\u2003", "\x00", "a\x00b", "n" * 256, 1, True, None, []])
def test_a_bad_name_is_refused(client: FlaskClient, project_id: str, value: object) -> None:
    assert "'name'" in refused(client, json.dumps({"name": value, "api_key": "k"}).encode())
    assert client.patch(f"/manage/projects/{project_id}", json={"name": value}).status_code == 400


@pytest.mark.parametrize(
    "value", ["", " ", "a b", "k\n", "\nk", "k\r", "k\tk", "k\x7f", "k\x00", "\u00e9", "k" * 4097, 1, None]
)
def test_a_bad_api_key_is_refused(client: FlaskClient, project_id: str, value: object) -> None:
    assert "'api_key'" in refused(client, json.dumps({"name": "n", "api_key": value}).encode())
    assert client.patch(f"/manage/projects/{project_id}", json={"api_key": value}).status_code == 400


@pytest.mark.parametrize("value", ["1.0", "1e3", "true", "-1", "9223372036854775808", "1e400", '"1"', "null", "[]"])
def test_a_bad_max_requests_is_refused(client: FlaskClient, token: dict[str, object], value: str) -> None:
    body = f'{{"project_id": "{token["project_id"]}", "max_requests": {value}}}'.encode()
    message = refused(client, body, "/manage/tokens")
    assert message.startswith("The field 'max_requests' must be ")
    answer = client.patch(f"/manage/tokens/{token['id']}", data=body, content_type="application/json")
    assert (answer.status_code, answer.get_json()["message"]) == (400, message)
    assert without_usage(client.get(f"/manage/tokens/{token['id']}").json) == token


@pytest.mark.parametrize("value", ["1.0", "true", "-1", "2880001", "9" * 400, '"1"', "null"])
def test_a_bad_expires_in_days_is_refused(client: FlaskClient, project_id: str, value: str) -> None:
    body = f'{{"project_id": "{project_id}", "expires_in_days": {value}}}'.encode()
    assert refused(client, body, "/manage/tokens").startswith("The field 'expires_in_days' must be ")


@pytest.mark.parametrize("value", ["", "x", 1, None, "123e4567e89b12d3a456426614174000"])
def test_a_bad_project_id_is_refused(client: FlaskClient, value: object) -> None:
    assert "'project_id'" in refused(client, json.dumps({"project_id": value}).encode(), "/manage/tokens")


@pytest.mark.parametrize("value", ["true", 1, 0, None, []])
def test_a_bad_is_active_is_refused(client: FlaskClient, token: dict[str, object], value: object) -> None:
    for path in (f"/manage/tokens/{token['id']}", f"/manage/projects/{token['project_id']}"):
        assert client.patch(path, json={"is_active": value}).status_code == 400


def test_one_bad_field_changes_nothing(client: FlaskClient, project_id: str) -> None:
    path = f"/manage/projects/{project_id}"
    before = client.get(path).json
    assert client.patch(path, json={"name": "New", "api_key": "sk-new", "is_active": "no"}).status_code == 400
    assert client.get(path).json == before


def test_the_last_of_repeated_keys_counts(client: FlaskClient) -> None:
    body = b'{"name": 1, "api_key": "k", "name": "last"}'
    answer = client.post("/manage/projects", data=body, content_type="application/json")
    assert answer.status_code == 201
    assert answer.json is not None
    assert answer.json["name"] == "last"


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "application/vnd.api+json", "x;="],
)
def test_other_media_types_are_refused(client: FlaskClient, content_type: str | None) -> None:
    answer = client.post("/manage/projects", data=b"{", content_type=content_type)
    assert answer.status_code == 415


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;x"])
def test_every_spelling_of_the_media_type_is_accepted(client: FlaskClient, content_type: str) -> None:
    body = b'{"name": "n", "api_key": "k"}'
    assert client.post("/manage/projects", data=body, content_type=content_type).status_code == 201


@pytest.mark.parametrize("path", ["/manage/projects", "/manage/nothing"])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_a_body_that_is_too_large_is_refused(client: FlaskClient, path: str, content_type: str) -> None:
    answer = client.post(path, data=b"x" * (MAX_BODY + 1), content_type=content_type)
    assert answer.status_code == 413


def test_the_largest_body_is_accepted(client: FlaskClient) -> None:
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
def test_no_message_quotes_the_request(client: FlaskClient, body: object) -> None:
    message = refused(client, json.dumps(body, ensure_ascii=False).encode())
    assert SECRET not in message
    assert "must-not-come-back" not in message


OPERATIONS = [
    (method, re.sub(r"\{[^}]*\}", "3f2b8a9e-6c1d-4e57-9a40-0d9b7c5f1e23", path), operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if path.startswith("/manage") and isinstance(operation, dict)
]
WITHOUT_BODY = [(method, path) for method, path, operation in OPERATIONS if "requestBody" not in operation]
WITH_BODY = [(method, path) for method, path, operation in OPERATIONS if "requestBody" in operation]


def test_every_view_has_an_operation_and_every_operation_a_view(app: flask.Flask) -> None:
    views = {
        (method, re.sub("<[^>]*>", "{}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if rule.rule.startswith("/manage") and method != "HEAD"
    }
    assert views == {
        (method.upper(), re.sub(r"\{[^}]*\}", "{}", path))
        for path, item in DOCUMENT["paths"].items()
        for method in item
        if path.startswith("/manage") and method not in {"servers", "parameters"}
    }


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in OPERATIONS])
def test_unknown_query_parameters_are_refused_everywhere(client: FlaskClient, method: str, path: str) -> None:
    """Before any other check: no project or token has these ids."""
    for name in (method, "head") if method == "get" else (method,):
        answer = client.open(f"{path}?colour=red&sk-0123456789=x", method=name, json={})
        assert answer.status_code == 400
    message = client.open(f"{path}?colour=red&sk-0123456789=x", method=method, json={}).get_json()["message"]
    assert message.startswith("The query has unknown parameters: 'colour', '***'; known parameters: ")


def test_the_nearest_query_parameter_is_suggested(client: FlaskClient, project_id: str) -> None:
    for query, near in (
        ("tokens?active_only=true", "activeOnly"),
        ("tokens?project_id=x", "projectId"),
        ("usage?group_by=model", "groupBy"),
        ("requests?Limit=5", "limit"),
    ):
        answer = client.get(f"/manage/{query}")
        assert answer.status_code == 400
        assert f"(did you mean '{near}'?)" in answer.get_json()["message"]
    assert client.delete(f"/manage/projects/{project_id}?dryRun=true").status_code == 400
    assert client.get(f"/manage/projects/{project_id}").status_code == 200


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_unknown_fields_are_refused_everywhere(client: FlaskClient, method: str, path: str) -> None:
    answer = client.open(path, method=method, json={"colour": SECRET, "8f14e45f-ceea-4672-9c6d-4cf0d7a1b5e1": 1})
    assert answer.status_code == 400
    message = answer.get_json()["message"]
    assert "The body has unknown fields: 'colour', '***'; known fields: " in message
    assert SECRET not in message


@pytest.mark.parametrize(
    ("path", "field", "near"),
    [
        ("/manage/tokens", "max_request", "max_requests"),
        ("/manage/tokens", "expires_in_day", "expires_in_days"),
        ("/manage/tokens", "expiresAt", "expires_at"),
        ("/manage/projects", "apiKey", "api_key"),
    ],
)
def test_a_mistyped_field_is_refused_and_creates_nothing(
    client: FlaskClient, project_id: str, path: str, field: str, near: str
) -> None:
    good = {"project_id": project_id} if path == "/manage/tokens" else {"name": "n", "api_key": "k"}
    before = [client.get(each).json for each in ("/manage/tokens", "/manage/projects")]
    answer = client.post(path, json={**good, field: 100})
    assert answer.status_code == 400
    assert answer.get_json()["message"] == f"The body has an unknown field: '{field}' (did you mean '{near}'?)."
    assert [client.get(each).json for each in ("/manage/tokens", "/manage/projects")] == before


def test_unknown_and_bad_fields_are_reported_together(client: FlaskClient) -> None:
    body = {"project_id": 1, "max_requests": "7", "tokens": 1}
    assert refused(client, json.dumps(body).encode(), "/manage/tokens") == (
        "The body has an unknown field: 'tokens'; known fields: "
        "project_id, name, expires_in_days, expires_at, max_requests, rate_limits, budgets, max_parallel_requests, "
        "allowed_models, allowed_endpoints, allowed_ips. "
        "The field 'project_id' must be a string, not an integer. "
        "The field 'max_requests' must be an integer, not a string."
    )


def test_very_many_unknown_fields_are_refused_quickly_and_shortly(client: FlaskClient) -> None:
    body = {f"{number:060}": number for number in range(10_000)}
    assert len(refused(client, json.dumps(body).encode())) < 5_000


@pytest.mark.parametrize(("method", "path"), WITHOUT_BODY)
def test_an_unexpected_body_is_refused(client: FlaskClient, method: str, path: str) -> None:
    for body in (b'{"token_ids": []}', b"null", b"[]", b"x", b"{"):
        for content_type in ("application/json", "text/plain", None):
            answer = client.open(path, method=method, data=body, content_type=content_type)
            assert answer.status_code == 400
            assert answer.get_json()["message"] == "This request takes no body: send none."


@pytest.mark.parametrize("body", [b"", b"{}", b" {\n} "])
def test_an_empty_object_is_no_body(client: FlaskClient, project_id: str, body: bytes) -> None:
    path = f"/manage/projects/{project_id}/tokens/revoke"
    assert client.post(path, data=body, content_type="application/json").status_code == 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=st.fixed_dictionaries({}, optional={"name": json_values, "api_key": json_values}) | json_values)
def test_any_json_is_accepted_or_refused(client: FlaskClient, body: object) -> None:
    answer = client.post("/manage/projects", data=json.dumps(body), content_type="application/json")
    assert answer.status_code in {201, 400}


names_of_tokens = st.text(max_size=102) | st.text(st.characters(exclude_categories=()), max_size=5) | json_values


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=names_of_tokens)
def test_any_token_name_is_stored_unchanged_or_refused(client: FlaskClient, project_id: str, name: object) -> None:
    body = {"project_id": project_id, "name": name}
    answer = client.post("/manage/tokens", data=json.dumps(body), content_type="application/json")
    assert answer.status_code in {201, 400}
    if answer.status_code == 201:
        shown = client.get(f"/manage/tokens/{answer.get_json()['id']}").get_json()["name"]
        assert shown == name
        if isinstance(name, str):
            assert 1 <= len(name) <= 100
            assert name.strip()
            assert len(f"{name}.".splitlines()) == 1
            assert not any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in name)
