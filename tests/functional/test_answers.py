"""The proxy's own responses: their order, their shape, and that the connection stays usable."""

import json
import sqlite3
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.clients.raw_client import RawClient
from support.gateway.gateway import Gateway, bearer
from support.gateway.processes import wait_until

UNKNOWN = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url) as client:
        yield client


def check_openai_error(response: httpx.Response, status: int, code: str) -> None:
    """Check the schema `Error`, in the shape that OpenAI's SDKs read."""
    body = response.json()
    assert response.status_code == status, body
    assert response.headers["content-type"] == "application/json"
    assert body["code"] == body["error"]["code"] == code
    assert body["message"] == body["error"]["message"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    check_request_ids(response)


def check_error_response(response: httpx.Response, status: int, code: str, text: str) -> None:
    """Check the contract's schema `ErrorResponse`."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"error": text, "code": code, "message": text}
    check_request_ids(response)


def check_request_ids(response: httpx.Response) -> None:
    assert uuid.UUID(response.headers["x-llm-proxy-request-id"]).version == 7
    assert response.headers["x-request-id"]
    assert "x-llm-proxy-remote-duration-ms" not in response.headers


def test_health_is_answered_without_a_token(client: httpx.Client) -> None:
    response = client.get("/health")
    assert response.status_code == 200
    assert response.json()["status"] == "ok"
    assert set(response.json()) == {"status", "version", "timestamp"}
    check_request_ids(response)
    head = client.head("/health")
    assert (head.status_code, head.content) == (200, b"")
    assert client.post("/health").headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        f"Basic {UNKNOWN}",
        f"Bearer {UNKNOWN}",
        f"Bearer {UNKNOWN.upper()}a",
        f"Bearer {{{UNKNOWN}}}",
        f"Bearer urn:uuid:{UNKNOWN}",
        "Bearer sk-a-real-key-by-mistake",
    ],
)
def test_missing_malformed_and_unknown_tokens_are_401(client: httpx.Client, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    response = client.get("/v1/models", headers=headers)
    check_openai_error(response, 401, "invalid_token")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "form",
    [
        "{}a",
        "{}=",
        "{},",
        "{} {}",
        "\t{}",
        "{{{}}}",
        '"{}"',
        "<{}>",
        "urn:uuid:{}",
        "Bearer {}",
        "token={}",
        "0{}",
    ],
)
def test_a_token_in_another_form_is_401(client: httpx.Client, gateway: Gateway, form: str) -> None:
    token = gateway.make_token()
    check_no_token(client, form.format(*[token["token"]] * 2))
    assert gateway.token(token["id"])["request_count"] == 0


def test_a_token_in_capitals_or_without_hyphens_is_401(client: httpx.Client, gateway: Gateway) -> None:
    token = gateway.make_token()
    for form in (token["token"].upper(), token["token"].replace("-", ""), token["id"]):
        check_no_token(client, form)
    assert gateway.token(token["id"])["request_count"] == 0


def check_no_token(client: httpx.Client, text: str) -> None:
    response = client.get("/v1/models", headers={"Authorization": f"Bearer {text}"})
    check_openai_error(response, 401, "invalid_token")


def test_a_repeated_authorization_is_400(client: httpx.Client, gateway: Gateway) -> None:
    token = gateway.make_token()["token"]
    headers = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
    check_openai_error(client.get("/v1/models", headers=headers), 400, "invalid_request")


def test_the_scheme_bearer_is_accepted_in_any_case(client: httpx.Client, gateway: Gateway) -> None:
    token = gateway.make_token()["token"]
    for scheme in ("bearer", "BEARER", "Bearer"):
        assert client.get("/v1/models", headers={"Authorization": f"{scheme} {token}"}).status_code == 200


def test_a_revoked_token_is_401(client: httpx.Client, gateway: Gateway) -> None:
    token = gateway.make_token()
    gateway.manage("DELETE", f"/manage/tokens/{token['token']}").raise_for_status()
    check_openai_error(client.get("/v1/models", headers=bearer(token)), 401, "token_inactive")


def test_a_used_up_token_is_429(client: httpx.Client, gateway: Gateway) -> None:
    token = gateway.make_token(max_requests=1)
    assert client.get("/v1/models", headers=bearer(token)).status_code == 200
    response = client.get("/v1/models", headers=bearer(token))
    check_openai_error(response, 429, "insufficient_quota")
    assert response.headers["x-should-retry"] == "false"


def test_an_inactive_project_is_403(client: httpx.Client, gateway: Gateway) -> None:
    project = gateway.make_project()
    token = gateway.make_token(project["id"])
    gateway.manage("PATCH", f"/manage/projects/{project['id']}", {"is_active": False}).raise_for_status()
    response = client.get("/v1/models", headers=bearer(token))
    check_error_response(response, 403, "project_inactive", "Project is inactive")


def test_the_first_of_several_reasons_is_answered(client: httpx.Client, gateway: Gateway) -> None:
    """Revoked before expired before project off before used up."""
    project = gateway.make_project()
    token = gateway.make_token(project["id"], max_requests=1)
    token_path, project_path = f"/manage/tokens/{token['id']}", f"/manage/projects/{project['id']}"

    def code() -> Any:
        return client.get("/v1/models", headers=bearer(token)).json().get("code")

    assert code() is None
    assert code() == "insufficient_quota"
    gateway.manage("PATCH", project_path, {"is_active": False}).raise_for_status()
    assert code() == "project_inactive"
    with sqlite3.connect(gateway.data / "llm-proxy.db") as store:
        store.execute("UPDATE token SET expires_at = 1 WHERE id = ?", (token["id"],))
    store.close()
    assert code() == "token_expired"
    gateway.manage("PATCH", token_path, {"is_active": False}).raise_for_status()
    assert code() == "token_inactive"
    gateway.manage("DELETE", project_path).raise_for_status()
    assert code() == "invalid_token"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: five\r\n\r\nhello",
        b"GET /v1/x HTTP/1.1\r\nAuthorization Bearer " + UNKNOWN.encode() + b"\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
    ],
)
def test_malformed_http_is_answered_once_in_json_and_closed(gateway: Gateway, request_bytes: bytes) -> None:
    with RawClient(gateway.port) as client:
        client.send(request_bytes)
        head, body = client.read_answer()
        assert client.read_to_end() == b""
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"x-llm-proxy-request-id: " in head.lower()
    assert json.loads(body)["code"] == "invalid_request"


def test_refusals_keep_the_connection_usable(gateway: Gateway) -> None:
    token = gateway.make_token()
    requests = [
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
        b"HEAD /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: nonsense\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n" + bytes(2_000_000),
        b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    with RawClient(gateway.port) as client:
        for request in requests:
            client.send(request)
            head = client.read_head() if request.startswith(b"HEAD") else client.read_answer()[0]
            assert head.split(b" ")[1] in {b"401", b"404"}
        client.send(f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token['token']}\r\n\r\n".encode())
        assert client.read_answer()[0].startswith(b"HTTP/1.1 200 ")


def test_an_unauthenticated_upload_is_answered_before_its_body(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\nfirst bytes")
        assert client.read_answer()[0].startswith(b"HTTP/1.1 401 ")


def test_what_pages_read_for_long_is_made_in_the_background(gateway: Gateway) -> None:
    wait_until(lambda: "a value for the pages is made" in gateway.management.output())
