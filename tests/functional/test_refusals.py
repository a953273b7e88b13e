"""Refused requests of known tokens, as an operator finds them: by the SDK's id, by their status, and in the log."""

import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from support.gateway.gateway import Gateway, bearer
from support.gateway.processes import wait_until
from support.upstreams.upstreams import DemoUpstream

CLIENT = "203.0.113.7"
LOOP = 60


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, upstream: DemoUpstream, path: str
) -> Iterator[Gateway]:
    """A gateway behind a proxy that it trusts."""
    url = request.getfixturevalue("postgresql_server").make_database() if request.param == "postgresql" else ""
    with Gateway.start(
        tmp_path_factory.mktemp("refusals"),
        upstream.url,
        database_url=url,
        LOG_FORMAT="json",
        LOG_LEVEL="info",
        TRUSTED_PROXIES="127.0.0.0/8",
        PLAIN_PATH=path,
    ) as gateway:
        yield gateway


def found(gateway: Gateway, path: str) -> Any:
    return gateway.manage("GET", path).raise_for_status().json()


def lines(gateway: Gateway, request_id: str) -> list[dict[str, Any]]:
    """Return the log lines of a request; they may come a moment after its answer."""
    wait_until(lambda: request_id in gateway.logs())
    return [json.loads(line) for line in gateway.logs().splitlines() if request_id in line]


def test_refusals_of_a_used_up_token_are_found_and_counted(gateway: Gateway) -> None:
    project = gateway.make_project("Search")
    token = gateway.make_token(project["id"], name="Ann's laptop", max_requests=1)
    with openai.OpenAI(
        base_url=f"{gateway.url}/v1",
        api_key=token["token"],
        default_headers={"X-Forwarded-For": f"198.51.100.1, {CLIENT}"},
    ) as client:
        models = client.models.with_raw_response.list()
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello!"}])
        for _ in range(LOOP - 1):
            with pytest.raises(openai.RateLimitError):
                client.models.list()
    mine = f"tokenId={token['id']}"
    wait_until(lambda: found(gateway, f"/manage/usage?{mine}")["totals"]["refused"] == LOOP)

    first = found(gateway, f"/manage/requests/{refused.value.request_id}")
    whose = {"token_id": token["id"], "token_name": "Ann's laptop", "project_id": project["id"], "client": CLIENT}
    assert {name: first[name] for name in whose} == whose
    assert (first["status"], first["code"], first["path"]) == (429, "insufficient_quota", "/v1/chat/completions")
    rows = found(gateway, f"/manage/requests?status=429&{mine}")["data"]
    assert first in rows
    assert len(rows) <= 3  # a minute may end in between
    assert sum(row["repeats"] for row in rows) == LOOP
    assert rows == found(gateway, f"/manage/requests?code=insufficient_quota&{mine}")["data"]

    admitted = found(gateway, f"/manage/requests/{models.headers['x-request-id']}")
    assert (admitted["id"], admitted["code"]) == (models.headers["x-llm-proxy-request-id"], None)
    assert {name: admitted[name] for name in whose} == whose
    totals = found(gateway, f"/manage/usage?{mine}")["totals"]
    assert (totals["requests"], gateway.token(token["id"])["request_count"]) == (1, 1)

    logged = {**whose, "project_name": "Search"}
    for row in (first, admitted):
        (line,) = lines(gateway, row["id"])
        assert {name: line[name] for name in logged} == logged
        assert line["status"] == row["status"]


def test_each_reason_is_listed_with_its_code(gateway: Gateway) -> None:
    project = gateway.make_project()
    token = gateway.make_token(project["id"])

    def ask(path: str = "/v1/models") -> str:
        answer = httpx.get(f"{gateway.url}{path}", headers=bearer(token))
        assert answer.is_error
        return answer.headers["x-request-id"]

    asked = {ask("/v1/organization/projects"): (403, "endpoint_not_allowed")}
    gateway.manage("PATCH", f"/manage/projects/{project['id']}", {"is_active": False}).raise_for_status()
    asked[ask()] = (403, "project_inactive")
    gateway.manage("PATCH", f"/manage/tokens/{token['id']}", {"expires_at": "2026-01-01T00:00:00Z"}).raise_for_status()
    asked[ask()] = (401, "token_expired")
    gateway.manage("DELETE", f"/manage/tokens/{token['id']}").raise_for_status()
    asked[ask()] = (401, "token_inactive")
    path = f"/manage/requests?tokenId={token['id']}"
    wait_until(lambda: len(found(gateway, path)["data"]) == len(asked))
    assert {row["id"]: (row["status"], row["code"]) for row in found(gateway, path)["data"]} == asked


def test_an_unknown_token_leaves_no_row(gateway: Gateway) -> None:
    token = gateway.make_token(max_requests=1)
    unknown = httpx.get(f"{gateway.url}/v1/models", headers=bearer({"token": token["id"]}))
    assert unknown.status_code == 401
    httpx.get(f"{gateway.url}/v1/models", headers=bearer(token)).raise_for_status()
    assert httpx.get(f"{gateway.url}/v1/models", headers=bearer(token)).status_code == 429
    wait_until(lambda: bool(found(gateway, f"/manage/requests?code=insufficient_quota&tokenId={token['id']}")["data"]))
    assert gateway.manage("GET", f"/manage/requests/{unknown.headers['x-request-id']}").status_code == 404


def test_the_management_log_names_the_client_too(gateway: Gateway) -> None:
    answer = httpx.get(
        f"{gateway.manage_url}/manage/projects", headers={"X-Forwarded-For": f"unknown, {CLIENT}, 127.0.0.9"}
    )
    assert answer.status_code == 401
    (line,) = lines(gateway, answer.headers["x-request-id"])
    assert line["client"] == CLIENT
    connection = http.client.HTTPConnection("127.0.0.1", gateway.manage_port)
    with contextlib.closing(connection):
        connection.request("GET", "/", headers={"X-Forwarded-For": CLIENT, "Content-Length": "x"})
        malformed = connection.getresponse()
        assert malformed.status == 400
        request_id = malformed.headers["x-request-id"]
    (line,) = lines(gateway, request_id)
    assert (line["event"], line["client"]) == ("refused", CLIENT)
