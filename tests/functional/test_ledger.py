"""The ledger, compared with the upstream's record, through the real processes."""

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.gateway.gateway import Gateway, bearer
from support.gateway.processes import wait_until
from support.load.mixed_load import COLUMNS, KINDS, MixedLoad, compare, rows_of
from support.upstreams.metered_upstream import INPUT_TOKENS, PATHS, MeteredUpstream, body_of

REQUESTS = 120


@pytest.fixture(scope="module")
def upstream() -> Iterator[MeteredUpstream]:
    with MeteredUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, upstream: MeteredUpstream, path: str
) -> Iterator[Gateway]:
    url = request.getfixturevalue("postgresql_server").make_database() if request.param == "postgresql" else ""
    with Gateway.start(
        tmp_path_factory.mktemp("ledger"),
        upstream.url,
        proxies=2,
        database_url=url,
        LOG_LEVEL="warning",
        PLAIN_PATH=path,
    ) as gateway:
        yield gateway


def rows(gateway: Gateway, token: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in rows_of(gateway) if row["token_id"] == token["id"]]


def settled(gateway: Gateway, token: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a token's rows once all are settled."""
    wait_until(lambda: all(row["usage_source"] for row in rows(gateway, token)))
    return rows(gateway, token)


def test_each_request_has_the_row_that_the_upstream_expects(gateway: Gateway, upstream: MeteredUpstream) -> None:
    token = gateway.make_token()
    load = MixedLoad(lambda: [proxy.url for proxy in gateway.proxies], [token], clients=8)
    load.run(REQUESTS)
    found = settled(gateway, token)
    assert len(found) == len(load.sent) == gateway.token(token["id"])["request_count"] == REQUESTS
    sources = compare(found, upstream, load.sent)
    assert sources.total() == REQUESTS
    assert "left" not in sources
    assert {one.kind for one in load.sent} == {*KINDS}
    totals = gateway.manage("GET", f"/manage/usage?tokenId={token['id']}").raise_for_status().json()["totals"]
    assert {name: totals[name] for name in sources} == dict(sources)
    assert {name: totals[name] for name in COLUMNS} == {name: sum(row[name] or 0 for row in found) for name in COLUMNS}
    assert gateway.token(token["id"])["usage"]["requests"] == REQUESTS


def test_an_open_row_is_settled_when_its_process_stops(upstream: MeteredUpstream, tmp_path: Path) -> None:
    with Gateway.start(tmp_path, upstream.url, DRAIN_TIMEOUT="0.2") as own:
        token = own.make_token()
        with (
            httpx.Client(base_url=own.url, headers=bearer(token)) as client,
            client.stream(
                "POST", PATHS["chat-cut"], json=body_of("chat-cut"), headers={"X-Case": "chat-cut 40"}
            ) as cut,
        ):
            events = (line for line in cut.iter_lines() if line.startswith("data:"))
            for _ in range(1 + 40):  # the role, and the words
                next(events)
            (open_row,) = rows(own, token)
            assert (open_row["usage_source"], open_row["status"], open_row["cost_usd"]) == (None, None, None)
            own.proxies[0].process.signal(signal.SIGTERM)
            own.proxies[0].process.wait_stopped()
        (row,) = rows(own, token)
        assert (row["usage_source"], row["status"], row["streamed"]) == ("estimated", 200, True)
        assert (row["input_tokens"], row["output_tokens"]) == (INPUT_TOKENS, 40)


def test_refused_requests_have_no_row_without_a_code(gateway: Gateway) -> None:
    token = gateway.make_token(max_requests=1)
    statuses = Counter(
        httpx.get(f"{gateway.url}/v1/models", headers={**bearer(token), "X-Case": "models 1"}).status_code
        for _ in range(4)
    )
    assert statuses == {200: 1, 429: 3}
    assert len([row for row in rows(gateway, token) if row["code"] is None]) == 1


def test_rows_outlive_their_token_and_project(gateway: Gateway) -> None:
    project = gateway.make_project("Short-lived")
    token = gateway.make_token(project["id"])
    httpx.post(
        f"{gateway.url}{PATHS['chat']}", json=body_of("chat"), headers={**bearer(token), "X-Case": "chat 50"}
    ).raise_for_status()
    settled(gateway, token)
    gateway.manage("DELETE", f"/manage/projects/{project['id']}").raise_for_status()
    (row,) = rows(gateway, token)
    assert row["input_tokens"] == 500
    query = f"/manage/usage?groupBy=project&projectId={project['id']}"
    (group,) = gateway.manage("GET", query).raise_for_status().json()["groups"]
    assert (group["project_name"], group["requests"], group["input_tokens"]) == ("Short-lived", 1, 500)
