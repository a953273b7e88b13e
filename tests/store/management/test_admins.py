import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.stores.stores import rows

from store.errors import Conflict, InvalidRequest, LastAdmin, NotFound
from store.management.admins import ROOT_ID, AdminRecord, Admins, Role, that_begin
from store.runtime import redaction
from store.store import Store


@pytest.fixture
def admins(store: Store) -> Admins:
    return Admins(store)


def test_root_is_there_without_a_row(store: Store, admins: Admins) -> None:
    assert admins.list() == [AdminRecord(ROOT_ID, "root", Role.ADMIN, is_active=True, created_at=None)]
    assert rows(store, "admin") == []


def test_a_token_finds_its_administrator_and_is_kept_as_an_hmac_alone(store: Store, admins: Admins) -> None:
    made, token = admins.create("ops", Role.VIEWER)
    assert re.fullmatch(r"llmp_admin_[0-9a-f]{48}", token)
    assert redaction.mask_secrets(f"x{token}") == "x***"
    assert admins.of_token(token) == made == admins.list()[1]
    assert not any(admins.of_token(other) for other in (token[:-1], token.upper(), "", store.vault.lookup(token)))
    assert token[11:] not in str([rows(store, table) for table in ("admin", "audit")])


def test_names_that_begin_with_a_text_are_found(store: Store, admins: Admins) -> None:
    for name in ("rob", "ops"):
        admins.create(name, Role.VIEWER)
    with store.database.read():
        assert [that_begin(store.database, text) for text in ("", "ro", "x")] == [
            ["root", "ops", "rob"],
            ["root", "rob"],
            [],
        ]


def test_a_deleted_or_disabled_administrator_has_no_token(admins: Admins) -> None:
    made, token = admins.create("ops", Role.ADMIN)
    admins.disable(made.id)
    assert admins.of_token(token) is None
    admins.enable(made.id)
    assert admins.of_token(token) == made
    admins.delete(made.id)
    assert admins.of_token(token) is None
    assert [each.name for each in admins.list()] == ["root"]
    with pytest.raises(NotFound):
        admins.delete(made.id)


@pytest.mark.parametrize("name", ["", "-x", "cli:root", "a b", "x" * 65, "x\n", "4e9e2930-8b67-4da4-8974-c4b7e842b758"])
def test_a_bad_name_is_refused(admins: Admins, name: str) -> None:
    with pytest.raises(InvalidRequest):
        admins.create(name, Role.ADMIN)


@pytest.mark.parametrize("name", ["root", "ops"])
def test_a_name_is_taken_once(admins: Admins, name: str) -> None:
    admins.create("ops", Role.ADMIN)
    with pytest.raises(Conflict):
        admins.create(name, Role.VIEWER)


def test_root_is_disabled_and_enabled_and_never_deleted(store: Store, admins: Admins) -> None:
    admins.create("ops", Role.ADMIN)
    admins.disable(ROOT_ID)
    assert not Admins(store).root().is_active
    assert [each.name for each in admins.list()] == ["root", "ops"]
    with pytest.raises(Conflict, match="cannot be deleted"):
        admins.delete(ROOT_ID)
    admins.enable(ROOT_ID)
    assert admins.root().is_active


def test_the_last_administrator_that_can_manage_stays(admins: Admins) -> None:
    viewer, _ = admins.create("reader", Role.VIEWER)
    with pytest.raises(LastAdmin):
        admins.disable(ROOT_ID)
    made, _ = admins.create("ops", Role.ADMIN)
    admins.disable(ROOT_ID)
    for act in (admins.delete, admins.disable):
        with pytest.raises(LastAdmin):
            act(made.id)
    admins.delete(viewer.id)
    admins.enable(ROOT_ID)
    admins.delete(made.id)


def test_of_two_that_are_deleted_at_once_one_stays(store: Store, admins: Admins) -> None:
    made = [admins.create(f"ops{number}", Role.ADMIN)[0] for number in range(4)]
    admins.disable(ROOT_ID)

    def delete(admin_id: str) -> bool:
        try:
            Admins(store).delete(admin_id)
        except LastAdmin:
            return False
        finally:
            store.database.close()
        return True

    with ThreadPoolExecutor(len(made)) as pool:
        deleted = [*pool.map(delete, [each.id for each in made])]
    assert (deleted.count(False), len(admins.list())) == (1, 2)


def test_each_change_has_a_row_of_the_audit_and_none_that_was_refused(store: Store, admins: Admins) -> None:
    made, _ = admins.create("ops", Role.ADMIN)
    admins.disable(ROOT_ID)
    admins.disable(ROOT_ID)
    with pytest.raises(LastAdmin):
        admins.delete(made.id)
    admins.enable(ROOT_ID)
    admins.delete(made.id)
    found = sorted(rows(store, "audit"), key=lambda row: int(row["changed_at"]))
    assert [(row["action"], row["object_name"]) for row in found] == [
        ("admin.create", "ops"),
        ("admin.disable", "root"),
        ("admin.enable", "root"),
        ("admin.delete", "ops"),
    ]
