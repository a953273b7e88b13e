from typing import Any

import pytest
from flask.testing import FlaskClient
from support.stores.ledger import open_request, settle_request
from support.stores.stores import set_columns

from manage_api.patch import require_present
from store.clock import NEVER
from store.errors import InvalidRequest
from store.ledger.usage import Source
from store.store import Store

SHOWN: dict[str, object] = {
    "id": "3f2b8a9e-6c1d-4e57-9a40-0d9b7c5f1e23",
    "created_at": "2026-11-25T14:30:45Z",
    "request_count": 1,
    "last_used_at": None,
    "usage": {"requests": 1, "cost_usd": "0.1"},
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *SHOWN.items(),
        ("id", "3F2B8A9E-6C1D-4E57-9A40-0D9B7C5F1E23"),
        ("created_at", "2026-11-25T15:30:45.000+01:00"),
        ("created_at", "2026-11-25t14:30:45z"),
        ("usage", {"cost_usd": "0.1", "requests": 1}),
    ],
)
def test_the_current_value_is_accepted(field: str, value: object) -> None:
    require_present({field: value}, SHOWN)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "3f2b8a9e-6c1d-4e57-9a40-0d9b7c5f1e24"),
        ("id", None),
        ("created_at", "2026-11-25T14:30:46Z"),
        ("created_at", "2026-11-25T14:30:45.5Z"),
        ("created_at", "2026-11-25T14:30:45+01:00"),
        ("created_at", "yesterday"),
        ("created_at", 1),
        ("request_count", 0),
        ("request_count", 2),
        ("request_count", True),
        ("request_count", "1"),
        ("request_count", None),
        ("last_used_at", "2026-11-25T14:30:45Z"),
        ("last_used_at", 0),
        ("usage", {}),
        ("usage", {"requests": 1, "cost_usd": "0.1", "more": 1}),
        ("usage", {"requests": 2, "cost_usd": "0.1"}),
        ("usage", None),
    ],
)
def test_any_other_value_is_refused(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=rf"^The field '{field}' is read-only") as raised:
        require_present({field: value}, SHOWN)
    assert "yesterday" not in raised.value.message


def test_all_fields_that_differ_are_named() -> None:
    with pytest.raises(InvalidRequest, match=r"^The fields 'id', 'request_count' are read-only"):
        require_present({**SHOWN, "id": "x", "request_count": 5}, SHOWN)


@pytest.fixture
def used(client: FlaskClient, store: Store, token: dict[str, str]) -> dict[str, str]:
    """A token that was used: all of its read-only fields have a value."""
    mine = {"project_id": token["project_id"], "token_id": token["id"]}
    settle_request(store, **mine, usage_source=Source.OBSERVED, model="gpt-4o", input_tokens=10, cost=43_500_000)
    open_request(store, **mine)
    limits = {"rate_limits": [{"requests": 9, "per": "day"}], "max_parallel_requests": 3}
    client.patch(f"/manage/tokens/{token['id']}", json=limits)
    client.patch(f"/manage/projects/{token['project_id']}", json=limits)
    for owner in (token["id"], token["project_id"]):
        set_columns(store, "balance", f"{owner}/parallel", used=1)
    set_columns(store, "token", token["id"], request_count=2, last_used_at=1_700_000_000_999_999)
    set_columns(store, "token", token["id"], previous_lookup="of a value before", previous_expires_at=NEVER)
    client.patch(f"/manage/projects/{token['project_id']}", json={"name": "Two"})
    set_columns(store, "project", token["project_id"], created_at=1_700_000_000_999_999)
    return token


@pytest.fixture(params=["token by id", "token by value", "project"])
def path(request: pytest.FixtureRequest, used: dict[str, str]) -> str:
    """The path of the object that is read and sent back."""
    return {
        "token by id": f"/manage/tokens/{used['id']}",
        "token by value": f"/manage/tokens/{used['token']}",
        "project": f"/manage/projects/{used['project_id']}",
    }[request.param]


def test_an_object_can_be_sent_back_and_nothing_changes(client: FlaskClient, path: str) -> None:
    shown = client.get(path).json
    assert shown is not None
    answer = client.patch(path, json=shown)
    assert (answer.status_code, client.get(path).json) == (200, shown)
    assert client.patch(path, json=answer.json).status_code == 200


def test_an_object_can_be_sent_back_with_a_change(client: FlaskClient, path: str) -> None:
    shown = client.get(path).get_json()
    assert client.patch(path, json={**shown, "is_active": False}).status_code == 200
    after = client.get(path).get_json()
    moved = {"updated_at": after["updated_at"]} if "updated_at" in after else {}
    assert after == {**shown, "is_active": False, **moved}


def test_a_changed_read_only_field_is_refused_and_nothing_is_changed(client: FlaskClient, path: str) -> None:
    shown: dict[str, Any] = client.get(path).get_json()
    writable = {"name", "is_active", "max_requests", "expires_at", "rate_limits", "max_parallel_requests"}
    writable |= {"allowed_models", "allowed_endpoints", "allowed_ips", "budgets"}
    others: list[object] = [None, 0, "x", {}, True]
    for field in shown.keys() - writable:
        for value in others:
            answer = client.patch(path, json={"is_active": False, field: value})
            assert answer.status_code == 400
            assert answer.get_json()["message"].startswith(f"The field '{field}' is read-only")
    assert client.get(path).json == shown


def test_an_outdated_read_only_field_is_refused(client: FlaskClient, store: Store, path: str) -> None:
    """Of a project by its `updated_at`, of a token by its count."""
    shown = client.get(path).get_json()
    if "updated_at" in shown:
        set_columns(store, "project", shown["id"], updated_at=1)
    else:
        set_columns(store, "token", shown["id"], request_count=3)
    answer = client.patch(path, json={**shown, "is_active": False})
    assert answer.status_code == 400
    assert client.get(path).get_json()["is_active"] is True


def test_read_only_fields_of_an_unknown_object_are_a_404(client: FlaskClient) -> None:
    for folder in ("tokens", "projects"):
        unknown = f"/manage/{folder}/3f2b8a9e-6c1d-4e57-9a40-0d9b7c5f1e23"
        bodies: list[dict[str, object]] = [{"id": "x"}, {"usage": {}}, {"id": "x", "is_active": True}]
        for body in bodies:
            assert client.patch(unknown, json=body).status_code == 404


def test_a_token_that_cannot_be_decrypted_can_be_sent_back(
    client: FlaskClient, store: Store, token: dict[str, str]
) -> None:
    set_columns(store, "token", token["id"], sealed_value=b"damaged")
    path = f"/manage/tokens/{token['id']}"
    assert client.patch(path, json=client.get(path).json).status_code == 200
    assert client.patch(path, json={"token": token["token"]}).status_code == 400
