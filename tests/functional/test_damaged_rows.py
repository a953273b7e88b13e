"""A row whose ciphertext cannot be decrypted affects no other, and can be repaired over the management API."""

import contextlib
import sqlite3
from collections.abc import Callable

import httpx
import pytest
from support.gateway.gateway import Gateway, Way, bearer
from support.stores.ledger import without_usage
from support.upstreams.upstreams import KEY

ZEROS = "00000000-0000-0000-0000-000000000000"


def damage(gateway: Gateway, table: str, column: str, row_id: str, sealed: bytes | None) -> None:
    """Overwrite a ciphertext; without a new one, flip the last bit of the old one."""
    with contextlib.closing(sqlite3.connect(gateway.data / "llm-proxy.db", timeout=10)) as connection, connection:
        if sealed is None:
            [(old,)] = connection.execute(f"SELECT {column} FROM {table} WHERE id = ?", [row_id])  # noqa: S608
            sealed = old[:-1] + bytes([old[-1] ^ 1])
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", [sealed, row_id])  # noqa: S608


def complaints(gateway: Gateway, row_id: str) -> list[str]:
    return [line for line in gateway.logs().splitlines() if "cannot be decrypted" in line and row_id in line]


def status(gateway: Gateway, token: dict[str, object]) -> int:
    return httpx.get(f"{gateway.url}/v1/models", headers=bearer(token)).status_code


@pytest.mark.parametrize(
    "sealed", [None, b"", b"\x01", b"\x01" + bytes(80)], ids=["bit", "empty", "short", "other key"]
)
def test_a_token_that_cannot_be_decrypted_is_listed_without_its_value(
    gateways: Callable[[Way], Gateway], sealed: bytes | None
) -> None:
    """The management process decrypts it: one way to start the proxy is enough."""
    gateway = gateways("launcher")
    project = gateway.make_project()
    good, bad = (gateway.make_token(project["id"], max_requests=5) for _ in range(2))
    damage(gateway, "token", "sealed_value", bad["id"], sealed)
    shown = {**bad, "token": ZEROS}

    def listed() -> object:
        return gateway.manage("GET", f"/manage/tokens?projectId={project['id']}").raise_for_status().json()

    assert sorted(listed(), key=str) == sorted([good, shown], key=str)  # type: ignore[call-overload]
    assert without_usage(gateway.token(bad["id"])) == without_usage(gateway.token(bad["token"])) == shown
    assert len(complaints(gateway, bad["id"])) == 3  # one for each answer
    assert bad["token"] not in gateway.logs()
    assert gateway.manage("GET", f"/manage/tokens/{ZEROS}").status_code == 404
    assert status(gateway, shown) == 401

    path = f"/manage/tokens/{bad['id']}"
    assert status(gateway, bad) == 200
    assert gateway.manage("PATCH", path, {"max_requests": 2}).json()["max_requests"] == 2
    assert gateway.manage("DELETE", path).status_code == 204
    assert (status(gateway, bad), status(gateway, good)) == (401, 200)
    assert gateway.manage("PATCH", path, {"is_active": True}).status_code == 200
    assert [status(gateway, bad) for _ in range(2)] == [200, 429]
    revoked = gateway.manage("POST", f"/manage/projects/{project['id']}/tokens/revoke").json()
    assert revoked["revoked_count"] == 2
    assert gateway.manage("DELETE", f"/manage/projects/{project['id']}").status_code == 204
    assert listed() == []


def test_a_key_that_cannot_be_decrypted_refuses_its_project_alone(gateway: Gateway) -> None:
    good, bad = (gateway.make_token() for _ in range(2))
    path = f"/manage/projects/{bad['project_id']}"
    damage(gateway, "project", "sealed_api_key", bad["project_id"], None)
    answer = httpx.get(f"{gateway.url}/v1/models", headers=bearer(bad))
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert len(complaints(gateway, bad["project_id"])) == 1
    assert without_usage(gateway.token(bad["id"])) == bad  # not counted
    assert status(gateway, good) == 200
    assert any(project["id"] == bad["project_id"] for project in gateway.manage("GET", "/manage/projects").json())
    assert gateway.manage("GET", path).status_code == 200
    assert gateway.manage("PATCH", path, {"name": "Damaged"}).status_code == 200
    assert gateway.make_token(bad["project_id"])["project_id"] == bad["project_id"]
    assert status(gateway, bad) == 500
    assert gateway.manage("PATCH", path, {"api_key": KEY}).status_code == 200
    assert status(gateway, bad) == 200
    assert gateway.token(bad["id"])["request_count"] == 1
