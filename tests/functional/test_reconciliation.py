"""`llm-proxy reconcile` on a ledger that the real processes wrote, against what the upstream has recorded."""

import csv
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.gateway.gateway import Gateway, bearer
from support.gateway.processes import DEADLINE, tool, wait_until
from support.load.mixed_load import rows_of
from support.upstreams.metered_upstream import PATHS, Kind, MeteredUpstream, body_of

from store.clock import SECOND, from_rfc3339

SENT: list[tuple[Kind, int]] = [("chat", 50), ("chat", 20), ("responses", 30), ("embeddings", 40), ("error", 1)]
COLUMNS = ("start_time", "model", "n", "input_tokens", "input_cached_tokens", "output_tokens", "amount")
OPTIONS = {
    "--day": "start_time",
    "--model": "model",
    "--input": "input_tokens",
    "--cached-input": "input_cached_tokens",
    "--output": "output_tokens",
    "--cost": "amount",
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, upstream: MeteredUpstream
) -> Iterator[Gateway]:
    url = request.getfixturevalue("postgresql_server").make_database() if request.param == "postgresql" else ""
    with Gateway.start(
        tmp_path_factory.mktemp("reconciliation"), upstream.url, database_url=url, LOG_LEVEL="warning"
    ) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def upstream() -> Iterator[MeteredUpstream]:
    with MeteredUpstream() as upstream:
        yield upstream


def use(gateway: Gateway) -> list[dict[str, Any]]:
    """Send the requests with a token of a project of its own; return their rows once they are settled."""
    token = gateway.make_token(gateway.make_project()["id"])
    with httpx.Client(base_url=gateway.url, headers=bearer(token)) as client:
        for kind, number in SENT:
            client.post(PATHS[kind], json=body_of(kind), headers={"X-Case": f"{kind} {number}"})
    wait_until(lambda: all(row["usage_source"] for row in rows_of(gateway)))
    return [row for row in rows_of(gateway) if row["token_id"] == token["id"]]


def export(upstream: MeteredUpstream, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the provider's export: what the upstream has recorded, at the times and costs of the ledger.

    A provider does not count a request that it refused.
    """
    exported = []
    for row in rows:
        answered = upstream.answered[row["upstream_request_id"]]
        if answered.kind != "error":
            start_time = from_rfc3339(row["started_at"]) // SECOND
            tokens = (answered.input_tokens, answered.cached_input_tokens, answered.output_tokens)
            exported.append(dict(zip(COLUMNS, (start_time, row["model"], 1, *tokens, row["cost_usd"]), strict=True)))
    return exported


def reconcile(gateway: Gateway, exported: list[dict[str, Any]], **options: str) -> tuple[int, dict[str, Any]]:
    file = gateway.folder / "export.csv"
    with file.open("w", newline="", encoding="utf-8-sig") as text:
        writer = csv.DictWriter(text, COLUMNS, delimiter=";")
        writer.writeheader()
        writer.writerows(exported)
    given = [part for option in {**OPTIONS, **options}.items() for part in option]
    done = subprocess.run(
        [tool("llm-proxy"), "reconcile", file, *given, "--format", "json"],
        env=gateway.env,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_the_ledger_equals_the_export_until_it_is_altered(gateway: Gateway, upstream: MeteredUpstream) -> None:
    rows = use(gateway)
    exported = export(upstream, rows)
    project = {"--project": rows[0]["project_id"]}
    status, body = reconcile(gateway, exported, **project)
    assert (status, body["different_groups"], body["lines"]) == (0, 0, [])
    totals = {total["number"]: total for total in body["totals"]}
    assert totals["input_tokens"]["ledger"] == 500 + 200 + 300 + 40
    assert totals["output_tokens"]["export"] == 50 + 20 + 30
    assert totals["cost_usd"]["difference"] == "0"

    altered = next(row for row in exported if row["model"] == "gpt-4o-2024-08-06")
    altered["output_tokens"] += 7
    status, body = reconcile(gateway, exported, **project)
    (explains, line) = body["lines"]
    assert (status, body["different_groups"]) == (1, 1)
    assert (line["model"], line["number"], line["difference"]) == ("gpt-4o-2024-08-06", "output_tokens", 7)
    assert (explains["model"], explains["number"], explains["ledger"], explains["unknown"]) == (None, "requests", 1, 1)


def test_a_request_that_the_provider_does_not_count_differs(gateway: Gateway, upstream: MeteredUpstream) -> None:
    rows = use(gateway)
    options = {"--requests": "n", "--project": rows[0]["project_id"]}
    status, body = reconcile(gateway, export(upstream, rows), **options)
    (line,) = body["lines"]
    assert (status, line["model"], line["number"]) == (1, None, "requests")
    assert (line["export"], line["ledger"], line["unknown"]) == (0, 1, 1)
