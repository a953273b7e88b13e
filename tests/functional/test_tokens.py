"""Tokens over the management API and the proxy: many of them, by either name, and at the edges of their limits."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.gateway.gateway import Gateway, bearer, on_each_store
from support.stores.ledger import without_usage
from support.stores.stores import make_many_tokens, set_columns

from store import clock

LARGEST = 2**63 - 1
MANY = 10_000


def status(gateway: Gateway, token: dict[str, Any]) -> int:
    return httpx.get(f"{gateway.url}/v1/models", headers=bearer(token)).status_code


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
def test_ten_thousand_tokens_are_listed(tmp_path: Path, database_url: str) -> None:
    gateway = Gateway(tmp_path, "http://127.0.0.1:9", database_url=database_url)
    try:
        gateway.start_management()
        project_id, other = (gateway.make_project()["id"] for _ in range(2))
        first = gateway.make_token(other)
        with gateway.store() as store:
            made = make_many_tokens(store, project_id, MANY)
        found = gateway.manage("GET", "/manage/tokens").json()
        assert found[-1] == first
        assert [(token["id"], token["token"]) for token in found[:-1]] == made[::-1]
        assert gateway.manage("GET", f"/manage/tokens?projectId={other}&activeOnly=true").json() == [first]
        revoked = gateway.manage("POST", f"/manage/projects/{project_id}/tokens/revoke").json()
        assert revoked["revoked_count"] == MANY
        assert gateway.manage("GET", "/manage/tokens?activeOnly=true").json() == [first]
        assert gateway.manage("DELETE", f"/manage/projects/{project_id}").status_code == 204
        assert gateway.manage("GET", "/manage/tokens").json() == [first]
    finally:
        gateway.stop()


@pytest.mark.parametrize("name", ["id", "token"])
@pytest.mark.parametrize("write", [str.lower, str.upper], ids=["lower", "upper"])
def test_a_token_is_addressed_by_its_id_and_by_its_value(gateway: Gateway, name: str, write: Any) -> None:
    token = gateway.make_token()
    path = f"/manage/tokens/{write(token[name])}"
    assert without_usage(gateway.manage("GET", path).json()) == token
    assert gateway.manage("PATCH", path, {"max_requests": 3}).json() == {**token, "max_requests": 3}
    assert gateway.manage("DELETE", path).status_code == 204
    assert status(gateway, token) == 401
    assert gateway.manage("PATCH", path, {"is_active": True}).json()["is_active"] is True
    assert status(gateway, token) == 200


@pytest.mark.parametrize(
    ("fields", "days"),
    [({}, 30), *(({"expires_in_days": days}, days) for days in (0, 1, 2_880_000))],
)
def test_a_token_expires_after_its_days(gateway: Gateway, fields: dict[str, Any], days: int) -> None:
    token = gateway.make_token(**fields)
    if days == 0:
        assert token["expires_at"] == "9999-12-31T23:59:59Z"
    else:
        created = datetime.fromisoformat(token["created_at"])
        assert datetime.fromisoformat(token["expires_at"]) == created + timedelta(days=days)
        assert abs(created - datetime.now(UTC)) < timedelta(minutes=1)
    assert status(gateway, token) == 200


@on_each_store
def test_a_token_expires_at_the_second_that_is_shown(gateway: Gateway) -> None:
    """Neither before it nor after: the stored time is the one shown."""
    token = gateway.make_token(expires_in_days=1)
    with gateway.store() as store:
        [(stored,)] = store.database.execute("SELECT expires_at FROM token WHERE id = ?", [token["id"]])
        shown = datetime.fromisoformat(token["expires_at"])
        assert datetime.fromtimestamp(stored / clock.SECOND, UTC) == shown
        set_columns(store, "token", token["id"], expires_at=clock.now())
    assert status(gateway, token) == 401
    listed = gateway.manage("GET", f"/manage/tokens?projectId={token['project_id']}&activeOnly=true").json()
    assert listed == []


@on_each_store
def test_a_changed_expiry_holds_from_the_next_request(gateway: Gateway) -> None:
    made = gateway.make_token(expires_at="2040-01-01T00:00:00.9+00:00")
    assert made["expires_at"] == "2040-01-01T00:00:00Z"
    path = f"/manage/tokens/{made['id']}"
    statuses = [status(gateway, made)]
    for change in ({"expires_at": "2020-01-01T00:00:00Z"}, {"expires_in_days": 365}, {"expires_at": None}):
        assert gateway.manage("PATCH", path, change).status_code == 200
        statuses.append(status(gateway, made))
    assert statuses == [200, 401, 200, 200]
    assert gateway.token(made["id"])["expires_at"] == "9999-12-31T23:59:59Z"


@on_each_store
def test_a_token_that_was_read_can_be_sent_back(gateway: Gateway) -> None:
    token = gateway.make_token()
    for path in (f"/manage/tokens/{token['id']}", f"/manage/projects/{token['project_id']}"):
        read = gateway.manage("GET", path).json()
        assert gateway.manage("PATCH", path, read).status_code == 200
        assert gateway.manage("GET", path).json() == read
        refused = gateway.manage("PATCH", path, {**read, "is_active": False, "created_at": "2020-01-01T00:00:00Z"})
        assert (refused.status_code, gateway.manage("GET", path).json()) == (400, read)
        assert gateway.manage("PATCH", path, {**read, "is_active": False}).json()["is_active"] is False


@on_each_store
@pytest.mark.parametrize("limit", [0, 1, LARGEST - 1, LARGEST])
def test_limits_up_to_the_largest_are_kept_and_enforced(gateway: Gateway, limit: int) -> None:
    made, patched = gateway.make_token(max_requests=limit), gateway.make_token(max_requests=5)
    patched = gateway.manage("PATCH", f"/manage/tokens/{patched['id']}", {"max_requests": limit}).json()
    for token in (made, patched):
        assert token["max_requests"] == gateway.token(token["id"])["max_requests"] == limit
        assert [status(gateway, token) for _ in range(2)] == [200, 429 if limit == 1 else 200]


@on_each_store
@pytest.mark.parametrize("limit", [0, LARGEST])
def test_a_count_at_the_largest_number_does_not_overflow(gateway: Gateway, limit: int) -> None:
    token = gateway.make_token(max_requests=limit)
    with gateway.store() as store:
        set_columns(store, "token", token["id"], request_count=LARGEST - 1)
    assert status(gateway, token) == 200
    assert gateway.token(token["id"])["request_count"] == LARGEST
    if limit:
        assert status(gateway, token) == 429
