"""Administrators on two management APIs: each change holds on both at once."""

import json
import subprocess
from collections.abc import Iterator

import pytest
from support.gateway.gateway import Gateway
from support.gateway.processes import python

COMMAND = "from manage_api.cli.commands import main; main()"


def run(gateway: Gateway, *arguments: str) -> str:
    env = {**gateway.env, "DATA_DIR": str(gateway.folder / "management0"), "LOG_LEVEL": "warning"}
    done = subprocess.run(python("-c", COMMAND, *arguments), env=env, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def ops(nodes: Gateway) -> Iterator[dict[str, str]]:
    """An administrator that the command line has created, and that is deleted by it."""
    yield json.loads(run(nodes, "admin", "create", "ops", "--role", "admin", "--json"))
    run(nodes, "admin", "enable", "root")
    run(nodes, "admin", "delete", "ops", "--yes")


def statuses(gateway: Gateway, **token: str) -> set[int]:
    """Return the statuses of one request to each management API."""
    return {gateway.manage("GET", "/manage/projects", **token).status_code for _ in gateway.manage_ports}


def test_a_change_holds_on_all_nodes_at_once(nodes: Gateway, ops: dict[str, str]) -> None:
    assert len(nodes.manage_ports) == 2
    reader = nodes.manage("POST", "/manage/admins", {"name": "reader", "role": "viewer"}, token=ops["token"]).json()
    assert statuses(nodes, token=reader["token"]) == {200}
    assert nodes.manage("POST", "/manage/projects", {}, token=reader["token"]).status_code == 403
    assert nodes.manage("DELETE", f"/manage/admins/{reader['id']}", token=ops["token"]).status_code == 204
    assert statuses(nodes, token=reader["token"]) == {401}
    run(nodes, "admin", "disable", "root")
    assert (statuses(nodes), statuses(nodes, token=ops["token"])) == ({401}, {200})
    assert nodes.manage("DELETE", f"/manage/admins/{ops['id']}", token=ops["token"]).json()["code"] == "last_admin"
    run(nodes, "admin", "enable", "root")
    assert statuses(nodes) == {200}
    rows = [json.loads(line) for line in run(nodes, "audit", "--limit", "5", "--format", "jsonl").splitlines()]
    assert [(row["actor"].partition(":")[0], row["action"]) for row in rows] == [
        ("cli", "admin.enable"),
        ("cli", "admin.disable"),
        ("ops", "admin.delete"),
        ("ops", "admin.create"),
        ("cli", "admin.create"),
    ]
