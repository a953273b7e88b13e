import sqlite3

import psycopg
import pytest
from support.stores.stores import API_KEY, change_elsewhere, make_token, set_columns

from store import clock
from store.database.models import FormerProject, Project
from store.errors import InvalidRequest, NotFound
from store.management.projects import ProjectRecord, Projects
from store.management.tokens import Tokens
from store.store import Store

UNKNOWN_IDS = ["00000000-0000-4000-8000-000000000000", "", "nonsense", "\0", "x" * 10_000]


@pytest.fixture
def projects(store: Store) -> Projects:
    return Projects(store)


def sealed_key(project_id: str) -> bytes:
    return bytes(Project.get_by_id(project_id).sealed_api_key)


def test_a_new_project_is_active_and_can_be_read_back(projects: Projects) -> None:
    before = clock.now()
    project = projects.create("One", API_KEY)
    assert project.is_active
    assert before <= project.created_at <= clock.now()
    assert project.created_at == project.updated_at == project.api_key_updated_at
    assert projects.get(project.id) == project


def test_a_record_does_not_hold_the_key(projects: Projects) -> None:
    assert API_KEY not in repr(projects.create("One", API_KEY))


def test_names_need_not_be_unique_and_sort_by_code_point(projects: Projects) -> None:
    for name in ("b", "a", "Z", "é", "a"):
        projects.create(name, API_KEY)
    assert [project.name for project in projects.list()] == ["Z", "a", "a", "b", "é"]


@pytest.mark.parametrize("project_id", UNKNOWN_IDS)
def test_an_unknown_project_is_not_found(projects: Projects, project_id: str) -> None:
    with pytest.raises(NotFound):
        projects.get(project_id)
    with pytest.raises(NotFound):
        projects.update(project_id, {"name": "x", "api_key": "y"})
    with pytest.raises(NotFound):
        projects.update(project_id, {})
    with pytest.raises(NotFound):
        projects.delete(project_id)


def test_an_update_writes_the_named_columns_only(store: Store, projects: Projects) -> None:
    project = projects.create("One", API_KEY)
    set_columns(store, "project", project.id, updated_at=1)
    sealed = sealed_key(project.id)
    updated = projects.update(project.id, {"name": "Two"})
    assert (updated.name, updated.is_active, updated.created_at) == ("Two", True, project.created_at)
    assert updated.updated_at >= project.updated_at
    assert sealed_key(project.id) == sealed
    assert not projects.update(project.id, {"is_active": False}).is_active
    assert projects.get(project.id).name == "Two"


def test_an_empty_update_changes_nothing(store: Store, projects: Projects) -> None:
    project = projects.create("One", API_KEY)
    set_columns(store, "project", project.id, updated_at=1)
    assert projects.update(project.id, {}).updated_at == 1


def test_an_update_to_the_present_values_changes_nothing(store: Store, projects: Projects) -> None:
    project = projects.create("One", API_KEY)
    set_columns(store, "project", project.id, updated_at=1)
    assert projects.update(project.id, {"name": "One", "is_active": True}).updated_at == 1
    assert projects.update(project.id, {"name": "One", "is_active": False}).updated_at > 1


@pytest.mark.parametrize("key", ["sk-admin-0123", "SK-Admin-0123", " sk-admin-0123", "\n\tsk-admin-"])
def test_an_admin_key_is_refused(projects: Projects, key: str) -> None:
    project = projects.create("One", "sk-adminless")
    sealed = sealed_key(project.id)
    with pytest.raises(InvalidRequest, match="'api_key' begins with sk-admin-") as raised:
        projects.create("Two", key)
    assert "0123" not in raised.value.message
    with pytest.raises(InvalidRequest):
        projects.update(project.id, {"name": "Two", "api_key": key})
    assert projects.list() == [project]
    assert sealed_key(project.id) == sealed


def test_a_project_is_checked_in_the_transaction_that_changes_it(store: Store, projects: Projects) -> None:
    project = projects.create("One", API_KEY)
    seen: list[ProjectRecord] = []

    def check(record: ProjectRecord) -> None:
        seen.append(record)
        with pytest.raises((sqlite3.OperationalError, psycopg.errors.LockNotAvailable)):
            change_elsewhere(store, "project", project.id)

    assert projects.update(project.id, {"name": "Two"}, check).name == "Two"
    projects.update(project.id, {}, check)
    assert [record.name for record in seen] == ["One", "Two"]


def test_a_check_that_fails_changes_nothing(projects: Projects) -> None:
    project = projects.create("One", API_KEY)

    def check(_: ProjectRecord) -> None:
        raise InvalidRequest

    with pytest.raises(InvalidRequest):
        projects.update(project.id, {"name": "Two", "api_key": "sk-new"}, check)
    with pytest.raises(NotFound):
        projects.update(UNKNOWN_IDS[0], {}, check)
    assert projects.get(project.id) == project


def test_a_new_key_replaces_the_old_one_encrypted(store: Store, projects: Projects) -> None:
    project = projects.create("One", API_KEY)
    projects.update(project.id, {"api_key": "sk-new"})
    assert store.vault.open_api_key(project.id, sealed_key(project.id)) == "sk-new"


@pytest.mark.parametrize("key", ["sk-new", API_KEY])
@pytest.mark.parametrize("before", [1, None])
def test_the_time_of_a_key_is_that_of_its_replacement_alone(
    store: Store, projects: Projects, key: str, before: int | None
) -> None:
    project = projects.create("One", API_KEY)
    set_columns(store, "project", project.id, updated_at=1, api_key_updated_at=before)
    assert projects.update(project.id, {"name": "Two", "is_active": False}).api_key_updated_at == before
    replaced = projects.update(project.id, {"api_key": key})
    assert replaced.api_key_updated_at == replaced.updated_at > 1
    assert projects.get(project.id) == replaced


def test_deleting_a_project_deletes_its_tokens_and_no_others(store: Store, projects: Projects) -> None:
    gone, kept = make_token(store), make_token(store)
    projects.delete(gone.project_id)
    assert [token.id for token in Tokens(store).list()] == [kept.id]
    with pytest.raises(NotFound):
        projects.get(gone.project_id)
    with pytest.raises(NotFound):
        Tokens(store).get(gone.id)


def test_the_name_of_a_deleted_project_is_kept(projects: Projects) -> None:
    project = projects.create("One", API_KEY)
    projects.delete(project.id)
    assert [(row.id, row.name) for row in FormerProject.select()] == [(project.id, "One")]
