import itertools
from typing import Any

import pytest
from support.network.tcp_relay import COMMIT, Fate, TcpRelay
from support.stores.stores import (
    foreign_connection,
    make_many_tokens,
    make_token,
    on_postgresql,
    refused_by_the_database,
    rows,
)

from store.errors import OutcomeUnknown, StoreUnavailable
from store.management import bulk
from store.management.projects import Projects
from store.management.tokens import RevokedTokens, Tokens
from store.store import Store

NUMBER = 7


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH", 2)


@pytest.fixture
def project_id(store: Store) -> str:
    """A project with NUMBER tokens; another has one more."""
    make_token(store)
    project_id = make_token(store).project_id
    make_many_tokens(store, project_id, NUMBER - 1)
    return project_id


def active(store: Store, project_id: str) -> list[bool]:
    return [bool(row["is_active"]) for row in rows(store, "token") if row["project_id"] == project_id]


def test_all_tokens_of_a_project_are_revoked_and_no_others(store: Store, project_id: str) -> None:
    assert Tokens(store).revoke_all(project_id) == RevokedTokens(NUMBER, 0)
    assert active(store, project_id) == [False] * NUMBER
    assert sum(bool(row["is_active"]) for row in rows(store, "token")) == 1
    assert Tokens(store).revoke_all(project_id) == RevokedTokens(0, NUMBER)


def test_deleting_a_project_deletes_all_of_its_tokens_and_no_others(store: Store, project_id: str) -> None:
    Projects(store).delete(project_id)
    assert [row["project_id"] == project_id for row in rows(store, "token")] == [False]


def ids_of(store: Store, project_id: str) -> list[str]:
    """Return the ids of a project's tokens in the order in which they are changed."""
    return sorted(row["id"] for row in rows(store, "token") if row["project_id"] == project_id)


@pytest.mark.parametrize(
    ("refused", "revoked"),
    [
        ([0], 5),
        ([6], 6),
        ([3, 6], 4),
        ([0, 5], 3),
        ([2, 4], 2),  # two batches in a row: the rest is not tried
    ],
)
def test_tokens_that_the_database_refuses_to_revoke_count_as_failed(
    store: Store, project_id: str, refused: list[int], revoked: int
) -> None:
    ids = ids_of(store, project_id)
    with refused_by_the_database(store, [ids[number] for number in refused]):
        found = Tokens(store).revoke_all(project_id)
    failed = NUMBER - revoked
    assert found == RevokedTokens(revoked, 0, failed)
    assert found.total == NUMBER
    assert active(store, project_id).count(True) == failed
    assert Tokens(store).revoke_all(project_id) == RevokedTokens(failed, revoked, 0)


def test_a_bulk_revoke_that_revokes_nothing_raises(store: Store, project_id: str) -> None:
    with refused_by_the_database(store, ids_of(store, project_id)), pytest.raises(StoreUnavailable) as raised:
        Tokens(store).revoke_all(project_id)
    assert type(raised.value) is StoreUnavailable
    assert active(store, project_id) == [True] * NUMBER


def test_a_bulk_revoke_of_revoked_tokens_raises_nothing(store: Store, project_id: str) -> None:
    ids = ids_of(store, project_id)
    for token_id in ids[:3]:
        Tokens(store).revoke(token_id)
    with refused_by_the_database(store, ids[2:]):
        assert Tokens(store).revoke_all(project_id) == RevokedTokens(0, 2, 5)


@on_postgresql
def test_a_locked_token_fails_its_batch_alone(store: Store, project_id: str) -> None:
    store.database.timeout = 0.3
    with foreign_connection(store) as connection:
        connection.execute("BEGIN")
        connection.execute(f"SELECT * FROM token WHERE id = '{ids_of(store, project_id)[3]}' FOR UPDATE")  # noqa: S608
        assert Tokens(store).revoke_all(project_id) == RevokedTokens(5, 0, 2)


@pytest.mark.parametrize("in_doubt", [0, 1])
def test_a_commit_of_unknown_outcome_does_not_count_as_revoked(
    far_store: Store, relay: TcpRelay, monkeypatch: pytest.MonkeyPatch, in_doubt: int
) -> None:
    """The token was revoked after all; the next request shows that."""
    far_store.database.timeout = 0.5
    project_id = make_token(far_store).project_id
    make_many_tokens(far_store, project_id, NUMBER - 1)
    change, tokens, begun = bulk._change, Tokens(far_store), itertools.count()  # noqa: SLF001 - it is not replaced

    def cut_short(*args: Any, **options: Any) -> int:
        if next(begun) == in_doubt:
            relay.once(COMMIT, Fate.ANSWER_LOST, relay.refuse)
        return change(*args, **options)

    monkeypatch.setattr(bulk, "_change", cut_short)
    if in_doubt:
        assert tokens.revoke_all(project_id) == RevokedTokens(2, 0, 5)
    else:
        with pytest.raises(OutcomeUnknown):
            tokens.revoke_all(project_id)
    relay.listen()
    assert tokens.revoke_all(project_id) == RevokedTokens(5 - 2 * in_doubt, 2 + 2 * in_doubt, 0)


@pytest.mark.parametrize(("refused", "left"), [([4], 4), ([6], 3), ([2, 3, 4, 5, 6], NUMBER)])
def test_a_project_whose_tokens_could_not_all_be_deleted_stays(
    store: Store, project_id: str, refused: list[int], left: int
) -> None:
    """Its first batch is deleted in the transaction of the project itself, and so stays too."""
    ids = ids_of(store, project_id)
    with refused_by_the_database(store, [ids[number] for number in refused]), pytest.raises(StoreUnavailable) as raised:
        Projects(store).delete(project_id)
    assert isinstance(raised.value, OutcomeUnknown) == (left < NUMBER)
    assert len(ids_of(store, project_id)) == left
    Projects(store).delete(project_id)
    assert ids_of(store, project_id) == []
