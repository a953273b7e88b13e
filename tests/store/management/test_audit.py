import json
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from support.stores.stores import API_KEY, make_many_tokens, make_token, refused_by_the_database, rows

from store.database.transactions import transact
from store.errors import InvalidRequest, NotFound, StoreLocked
from store.management import audit, bulk
from store.management.audit import Origin, Subject, Versions
from store.management.prices import OwnPrices
from store.management.projects import Projects
from store.management.tokens import Tokens
from store.store import Store

ORIGIN = Origin("ops", "192.0.2.1", "01a22a36-59de-7a58-a275-3465d25217d8")


@pytest.fixture(autouse=True)
def _made_by_an_administrator() -> Iterator[None]:
    audit.begin(ORIGIN)
    yield
    audit.begin(audit.UNKNOWN)


def changes(store: Store) -> list[tuple[str, str | None, dict[str, Any]]]:
    """Return the action, the object and the changes of all rows, in their order."""
    found = sorted(rows(store, "audit"), key=lambda row: int(row["changed_at"]))
    return [(row["action"], row["object_id"], json.loads(row["changes"])) for row in found]


def last(store: Store) -> tuple[str, str | None, dict[str, Any]]:
    return changes(store)[-1]


def test_a_row_names_its_origin_its_object_and_its_project(store: Store) -> None:
    token = make_token(store, name="Ann's laptop")
    row = max(rows(store, "audit"), key=lambda row: int(row["changed_at"]))
    assert (row["actor"], row["address"], row["request_id"]) == ORIGIN
    assert (row["action"], row["object_id"], row["object_name"]) == ("token.create", token.id, "Ann's laptop")
    assert (row["project_id"], row["ids"]) == (token.project_id, None)


def test_a_change_of_no_origin_is_recorded_as_unknown(store: Store) -> None:
    audit.begin(audit.UNKNOWN)
    make_token(store)
    assert {(row["actor"], row["address"], row["request_id"]) for row in rows(store, "audit")} == {
        ("unknown", None, None)
    }


def test_changes_of_a_project_have_their_fields_before_and_after(store: Store) -> None:
    projects = Projects(store)
    project_id = projects.create("One", API_KEY, allowed_models=["m"]).id
    created = {"name": "One", "is_active": True, "allowed_models": ["m"], "api_key": "set"}
    assert last(store) == (
        "project.create",
        project_id,
        {name: {"before": None, "after": value} for name, value in created.items()},
    )
    projects.update(project_id, {"budgets": [{"per": "day", "usd": "5"}], "is_active": True})
    assert last(store)[::2] == ("project.update", {"budgets": {"before": None, "after": [{"usd": "5", "per": "day"}]}})
    projects.update(project_id, {"api_key": API_KEY, "name": "Two"})
    assert last(store)[::2] == (
        "project.api_key.replace",
        {"api_key": {"before": "set", "after": "replaced"}, "name": {"before": "One", "after": "Two"}},
    )


def test_changes_of_a_token_have_their_own_actions(store: Store) -> None:
    tokens, token = Tokens(store), make_token(store)
    for act, action in (
        ({"max_requests": 5, "name": "Ann"}, "token.update"),
        ({"is_active": False, "max_requests": 6}, "token.revoke"),
        ({"is_active": True}, "token.restore"),
    ):
        tokens.update(token.id, act)  # type: ignore[arg-type]
        assert last(store)[0] == action
        assert {name: change["after"] for name, change in last(store)[2].items()} == act
    tokens.update(token.id, {"expires_in_days": 0})
    assert last(store)[2]["expires_at"]["after"] == "9999-12-31T23:59:59Z"


def test_a_rotation_has_its_grace_and_no_value(store: Store) -> None:
    tokens, token = Tokens(store), make_token(store)
    rotated = tokens.rotate(token.id, 60)
    action, object_id, fields = last(store)
    assert (action, object_id, fields["grace_seconds"]["after"]) == ("token.rotate", token.id, 60)
    assert fields["token"] == {"before": "set", "after": "replaced"}
    assert fields["previous_expires_at"]["after"].endswith("Z")
    tokens.rotate(token.id)
    assert last(store)[2]["previous_expires_at"] == {"before": fields["previous_expires_at"]["after"], "after": None}
    assert not any(value in str(rows(store, "audit")) for value in (token.value, rotated.value, API_KEY))


def test_prices_have_rows_when_they_differ(store: Store) -> None:
    prices = OwnPrices(store)
    price = prices.set({"input": Decimal(1)}, model="m")
    again = prices.set({"input": Decimal("1.0")}, model="m")
    assert again == price
    prices.set({"input": Decimal(2)}, model="m")
    prices.delete(price.id)
    assert [(action, fields["rates"]) for action, _, fields in changes(store)] == [
        ("price.set", {"before": None, "after": {"input": "1"}}),
        ("price.set", {"before": {"input": "1"}, "after": {"input": "2"}}),
        ("price.delete", {"before": {"input": "2"}, "after": None}),
    ]


def test_what_changes_nothing_or_fails_has_no_row(store: Store) -> None:
    tokens, projects, token = Tokens(store), Projects(store), make_token(store)
    before = changes(store)
    tokens.update(token.id, {})
    tokens.update(token.id, {"is_active": True, "max_requests": 0})
    projects.update(token.project_id, {"name": "Tests"})

    def refuse(_: object) -> None:
        raise InvalidRequest

    for act in (
        lambda: tokens.update(token.id, {"max_requests": 5}, refuse),
        lambda: tokens.rotate(str(uuid.uuid4())),
        lambda: projects.delete(str(uuid.uuid4())),
        lambda: OwnPrices(store).delete(str(uuid.uuid4())),
    ):
        with pytest.raises((InvalidRequest, NotFound)):
            act()
    tokens.revoke(token.id)
    tokens.revoke(token.id)
    assert tokens.revoke_all(token.project_id).revoked == 0
    assert changes(store)[len(before) :] == [last(store)]


def test_a_repeated_transaction_has_the_row_of_the_run_that_was_committed(store: Store) -> None:
    runs: list[int] = []

    def change() -> None:
        audit.record(store.database, "token.update", Subject("id"), Versions({"x": 1}, {"x": len(runs)}))
        runs.append(0)
        if len(runs) < 3:
            raise StoreLocked

    transact(store.database, change)
    assert changes(store) == [("token.update", "id", {"x": {"before": 1, "after": 2}})]


@pytest.fixture
def crowded(store: Store, monkeypatch: pytest.MonkeyPatch) -> str:
    """A project with 5 tokens, which are changed 2 at a time."""
    monkeypatch.setattr(bulk, "BATCH", 2)
    project_id = Projects(store).create("One", API_KEY).id
    make_many_tokens(store, project_id, 5)
    return project_id


def parts(store: Store, action: str) -> list[list[str]]:
    found = sorted(rows(store, "audit"), key=lambda row: int(row["changed_at"]))
    return [json.loads(row["ids"]) for row in found if row["action"] == action]


def test_a_bulk_revoke_has_a_row_for_each_part_with_the_tokens_that_it_revoked(store: Store, crowded: str) -> None:
    ids = sorted(row["id"] for row in rows(store, "token"))
    Tokens(store).revoke(ids[1])
    with refused_by_the_database(store, [ids[4]]):
        assert Tokens(store).revoke_all(crowded).failed == 1
    assert parts(store, "project.tokens.revoke") == [[ids[0]], ids[2:4]]


def test_a_deleted_project_has_rows_with_all_its_tokens_and_prices(store: Store, crowded: str) -> None:
    price = OwnPrices(store).set({"input": Decimal(1)}, project_id=crowded)
    ids = sorted(row["id"] for row in rows(store, "token"))
    Projects(store).delete(crowded)
    assert parts(store, "project.tokens.delete") == [ids[2:4], ids[4:]]
    assert parts(store, "project.delete") == [[*ids[:2], price.id]]
    assert last(store)[2]["api_key"] == {"before": "set", "after": None}


def test_names_are_shown_without_what_looks_like_a_secret(store: Store) -> None:
    Projects(store).create(f"helpdesk-assistants {API_KEY}", API_KEY, allowed_models=[API_KEY])
    (row,) = rows(store, "audit")
    assert row["object_name"] == "helpdesk-assistants ***"
    assert API_KEY not in str(row)
