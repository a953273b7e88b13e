import uuid
from collections.abc import Callable, Sequence

import pytest
from support.stores.stores import (
    API_KEY,
    make_many_tokens,
    make_token,
    refused_by_the_database,
    rows,
    set_columns,
)

from store.database import Statement
from store.database.models import FormerToken
from store.errors import StoreUnavailable
from store.management import bulk, names
from store.management.projects import Projects
from store.store import Store

UNKNOWN = str(uuid.UUID(int=9))


def of_tokens(store: Store, ids: Sequence[str]) -> dict[str, str]:
    with store.database.read():
        return names.of_tokens(store.database, ids)


def of_projects(store: Store, ids: Sequence[str] | None = None) -> dict[str, str]:
    with store.database.snapshot():
        return names.of_projects(store.database, ids)


@pytest.fixture
def named(store: Store) -> Callable[..., str]:
    """Makes a token with a name, or without one, and returns its id."""

    def make(name: str | None, **fields: str) -> str:
        token_id = make_token(store, **fields).id
        set_columns(store, "token", token_id, token_name=name)
        return token_id

    return make


@pytest.fixture
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH", 2)


def test_names_of_tokens_are_found_by_id(store: Store, named: Callable[..., str]) -> None:
    first, second, other, nameless = named("Ann"), named("Ann"), named("Ben"), named(None)
    assert of_tokens(store, [first, second, nameless, UNKNOWN]) == {first: "Ann", second: "Ann"}
    assert of_tokens(store, [other, other]) == {other: "Ben"}
    assert of_tokens(store, []) == {}


def test_names_of_projects_are_found_by_id(store: Store) -> None:
    projects = Projects(store)
    first, second, gone = (projects.create(name, API_KEY).id for name in ("One", "One", "Gone"))
    projects.delete(gone)
    assert of_projects(store) == {first: "One", second: "One", gone: "Gone"}
    assert of_projects(store, [first, gone, UNKNOWN]) == {first: "One", gone: "Gone"}
    assert of_projects(store, []) == {}


@pytest.mark.usefixtures("_small_batches")
@pytest.mark.parametrize("number", [1, 2, 7])
def test_names_of_tokens_are_kept_by_every_way_to_delete_them(
    store: Store, named: Callable[..., str], number: int
) -> None:
    kept = named("Kept")
    project_id = Projects(store).create("Gone", API_KEY).id
    gone = {named(f"Token {each}", project_id=project_id): f"Token {each}" for each in range(number)}
    nameless = named(None, project_id=project_id)
    Projects(store).delete(project_id)
    assert of_tokens(store, [*gone, nameless, kept]) == {**gone, kept: "Kept"}
    assert {row["id"]: row["name"] for row in rows(store, "former_token")} == gone


@pytest.mark.usefixtures("_small_batches")
def test_a_token_that_is_not_deleted_leaves_no_name(store: Store, named: Callable[..., str]) -> None:
    project_id = Projects(store).create("Stays", API_KEY).id
    ids = sorted(named("Stays", project_id=project_id) for _ in range(7))
    with refused_by_the_database(store, [ids[5]]), pytest.raises(StoreUnavailable):
        Projects(store).delete(project_id)
    assert sorted(row["id"] for row in rows(store, "former_token")) == [ids[2], ids[3], ids[6]]
    assert of_tokens(store, ids) == dict.fromkeys(ids, "Stays")


def test_the_last_name_is_kept_where_there_is_one_already(store: Store, named: Callable[..., str]) -> None:
    token_id = named("Last")
    with store.database.write():
        FormerToken.create(id=token_id, name="First")
        names.keep_of_tokens(store.database, Statement("id = ?", [token_id]))
    assert [row["name"] for row in rows(store, "former_token")] == ["Last"]


def test_names_of_more_tokens_than_a_statement_has_parameters_are_found(store: Store) -> None:
    project_id = Projects(store).create("Many", API_KEY).id
    ids = [token_id for token_id, _ in make_many_tokens(store, project_id, 2500)]
    with store.database.write():
        store.database.run("UPDATE token SET token_name = id")
    unknown = [str(uuid.uuid4()) for _ in range(70_000)]
    assert of_tokens(store, [*unknown, *ids]) == {token_id: token_id for token_id in ids}
    Projects(store).delete(project_id)
    assert of_tokens(store, [*ids, *unknown]) == {token_id: token_id for token_id in ids}


def test_ids_are_found_by_a_name_those_of_deleted_ones_apart(store: Store) -> None:
    projects = Projects(store)
    first, second, gone = (projects.create(name, API_KEY).id for name in ("One", "One", "Gone"))
    ann, former = (make_token(store, project_id=project_id, name="Ann").id for project_id in (first, gone))
    projects.delete(gone)
    with store.database.read():
        assert names.projects_named(store.database, "One") == [first, second]
        assert names.projects_named(store.database, "Gone") == []
        assert names.projects_named(store.database, "Gone", deleted=True) == [gone]
        assert names.tokens_named(store.database, "Ann") == [ann]
        assert names.tokens_named(store.database, "Ann", deleted=True) == [former]
        assert names.tokens_named(store.database, "A\0nn\udcff") == []


def test_names_that_begin_with_a_text_are_offered_once(store: Store) -> None:
    for name in ("Ann", "Ann", "Anna", "100%", None):
        make_token(store, name=name)
    with store.database.read():
        assert names.tokens_that_begin(store.database, "An") == ["Ann", "Anna"]
        assert names.tokens_that_begin(store.database, "%") == []
        assert names.tokens_that_begin(store.database, "") == ["100%", "Ann", "Anna"]
        assert names.projects_that_begin(store.database, "Te") == ["Tests"]


def test_those_that_are_not_deleted_are_told_from_others(store: Store) -> None:
    projects = Projects(store)
    kept, gone = (projects.create(name, API_KEY).id for name in ("Kept", "Gone"))
    tokens = [make_token(store, project_id=kept, name=name).id for name in ("Ann", None)]
    former = make_token(store, project_id=gone, name="Ben").id
    projects.delete(gone)
    with store.database.read():
        assert names.of_present_projects(store.database) == {kept: "Kept"}
        assert names.present_tokens(store.database, [*tokens, *tokens, former, UNKNOWN]) == {*tokens}
        assert names.present_tokens(store.database, []) == set()
