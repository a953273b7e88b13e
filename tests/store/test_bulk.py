import pytest
from support.stores import make_many_tokens, make_token, rows

from store import bulk
from store.bootstrap import Store
from store.errors import OutcomeUnknown, StoreUnavailable
from store.projects import Projects
from store.tokens import RevokedTokens, Tokens

NUMBER = 7


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH", 3)


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


def test_all_tokens_of_a_project_go_with_it_and_no_others(store: Store, project_id: str) -> None:
    Projects(store).delete(project_id)
    assert [row["project_id"] == project_id for row in rows(store, "token")] == [False]


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_a_fault_tells_whether_any_were_changed(
    store: Store, project_id: str, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    change = bulk._change  # noqa: SLF001 - what the database fails to do

    def fail(*args: object) -> int:
        if len(done) == batches:
            raise StoreUnavailable
        done.append(1)
        return change(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(bulk, "_change", fail)
    with pytest.raises(StoreUnavailable) as raised:
        Tokens(store).revoke_all(project_id)
    assert isinstance(raised.value, OutcomeUnknown) == bool(batches)
    assert active(store, project_id).count(False) == 3 * batches
