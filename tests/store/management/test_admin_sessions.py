from contextlib import AbstractContextManager

import pytest
from support.stores.store_clock import StoreClock
from support.stores.stores import changed, foreign_lock, opened, rows

from store.errors import NotFound
from store.management.admin_sessions import (
    IDLE,
    LATE,
    LONGEST,
    MOST,
    PATIENCE,
    STEP,
    AdminSessions,
    Session,
)
from store.management.admins import ROOT_ID, AdminRecord, Admins, Role
from store.runtime.settings import Settings
from store.store import Store

ROOT_TOKEN = "management-token-of-the-tests"


@pytest.fixture
def sessions(store: Store) -> AdminSessions:
    return AdminSessions(store, ROOT_TOKEN)


@pytest.fixture
def admins(store: Store) -> Admins:
    return Admins(store)


@pytest.fixture
def root(admins: Admins) -> AdminRecord:
    return admins.root()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StoreClock:
    return StoreClock(monkeypatch)


def begun(sessions: AdminSessions, admin: AdminRecord, token: str = ROOT_TOKEN) -> str:
    return sessions.begin(admin, token, "192.0.2.7")


def found(sessions: AdminSessions, session_id: str) -> Session:
    session = sessions.find(session_id)
    assert session is not None
    return session


def test_a_session_is_found_by_its_id_alone_and_the_store_has_only_an_hmac(
    store: Store, sessions: AdminSessions, root: AdminRecord
) -> None:
    first, second = begun(sessions, root), begun(sessions, root)
    assert first != second
    assert len(first) >= 43
    assert found(sessions, first).admin == root
    row_lookup = found(sessions, first).lookup
    for wrong in ("", first[:-1], first.lower(), row_lookup, f"session:{first}", "\0", "x" * 5000):
        assert sessions.find(wrong) is None
    kept = str([rows(store, table) for table in ("admin_session", "audit")])
    assert first not in kept
    assert ROOT_TOKEN not in kept


def test_a_session_ends_where_it_is_not_used(sessions: AdminSessions, root: AdminRecord, clock: StoreClock) -> None:
    session_id, began = begun(sessions, root), clock.now
    clock.set(began + IDLE - 1)
    assert sessions.find(session_id)
    clock.set(began + 2 * IDLE - 2)
    assert sessions.find(session_id)
    clock.set(clock.now + IDLE)
    assert sessions.find(session_id) is None
    assert sessions.list() == []


def test_a_session_ends_however_much_it_is_used(sessions: AdminSessions, root: AdminRecord, clock: StoreClock) -> None:
    session_id, began = begun(sessions, root), clock.now
    while clock.now + IDLE // 2 < began + LONGEST:
        clock.set(clock.now + IDLE // 2)
        assert sessions.find(session_id)
    clock.set(began + LONGEST)
    assert sessions.find(session_id) is None


def test_a_page_that_reloads_itself_defers_no_end(
    sessions: AdminSessions, root: AdminRecord, clock: StoreClock
) -> None:
    session_id, began = begun(sessions, root), clock.now
    for _ in range(3):
        clock.set(clock.now + IDLE // 4)
        assert sessions.find(session_id, is_use=False)
    clock.set(began + IDLE)
    assert sessions.find(session_id, is_use=False) is None


def test_a_use_is_written_once_a_step(
    store: Store, sessions: AdminSessions, root: AdminRecord, clock: StoreClock
) -> None:
    session_id, began = begun(sessions, root), clock.now
    clock.set(began + STEP - 1)
    assert sessions.find(session_id)
    assert rows(store, "admin_session")[0]["used_at"] == began
    clock.set(began + STEP)
    assert sessions.find(session_id)
    assert rows(store, "admin_session")[0]["used_at"] == began + STEP


def test_a_session_works_while_others_write(settings: Settings, root: AdminRecord, clock: StoreClock) -> None:
    with opened(changed(settings, store_timeout=0.2)) as store:
        sessions = AdminSessions(store, ROOT_TOKEN)
        session_id, began = begun(sessions, root), clock.now
        clock.set(began + STEP)
        with foreign_lock(store):
            assert sessions.find(session_id)
        assert rows(store, "admin_session")[0]["used_at"] == began


def test_a_page_waits_for_others_where_a_use_has_to_be_written(
    store: Store, sessions: AdminSessions, root: AdminRecord, clock: StoreClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, waits = store.database.write, list[float | None]()

    def noted(*, patience: float | None = None) -> AbstractContextManager[None]:
        waits.append(patience)
        return write(patience=patience)

    session_id, began = begun(sessions, root), clock.now
    monkeypatch.setattr(store.database, "write", noted)
    for after in (STEP, LATE + STEP - 1, 2 * LATE + STEP):
        clock.set(began + after)
        assert sessions.find(session_id)
    assert waits == [PATIENCE, PATIENCE, None]


def test_a_session_ends_with_its_administrator(sessions: AdminSessions, admins: Admins) -> None:
    admin, token = admins.create("ops", Role.ADMIN)
    session_id = begun(sessions, admin, token)
    admins.disable(admin.id)
    assert sessions.find(session_id) is None
    assert sessions.list() == []
    admins.enable(admin.id)
    assert sessions.find(session_id)
    admins.delete(admin.id)
    assert sessions.find(session_id) is None


def test_a_session_of_root_ends_where_root_is_disabled_or_has_another_token(
    store: Store, sessions: AdminSessions, admins: Admins, root: AdminRecord
) -> None:
    session_id = begun(sessions, root)
    other = AdminSessions(store, "another-management-token")
    assert other.find(session_id) is None
    assert other.list() == []
    assert [each.admin_id for each in sessions.list()] == [ROOT_ID]
    admins.create("ops", Role.ADMIN)
    admins.disable(ROOT_ID)
    assert sessions.find(session_id) is None
    assert sessions.list() == []


def test_sessions_are_listed_those_used_last_first(
    sessions: AdminSessions, admins: Admins, root: AdminRecord, clock: StoreClock
) -> None:
    admin, token = admins.create("ops", Role.VIEWER)
    began = clock.now
    first = begun(sessions, root)
    clock.set(began + 1)
    begun(sessions, admin, token)
    assert [each.admin_id for each in sessions.list()] == [admin.id, ROOT_ID]
    clock.set(began + STEP)
    sessions.find(first)
    listed = sessions.list()
    assert [each.admin_id for each in listed] == [ROOT_ID, admin.id]
    assert (listed[0].address, listed[0].created_at, listed[0].used_at) == ("192.0.2.7", began, began + STEP)
    assert listed[0].ends_at == began + STEP + IDLE


def test_one_session_or_all_of_an_administrator_end(
    store: Store, sessions: AdminSessions, admins: Admins, root: AdminRecord
) -> None:
    admin, token = admins.create("ops", Role.ADMIN)
    own = begun(sessions, root)
    first, second, third = [begun(sessions, admin, token) for _ in range(3)]
    with pytest.raises(NotFound):
        sessions.end_of(root, found(sessions, first).lookup)
    with pytest.raises(NotFound):
        sessions.end_of(admin, "\0")
    lookup = found(sessions, first).lookup
    sessions.end_of(admin, lookup)
    with pytest.raises(NotFound):
        sessions.end_of(admin, lookup)
    assert sessions.find(first) is None
    session = found(sessions, second)
    sessions.end(session)
    sessions.end(session)
    assert sessions.find(second) is None
    assert sessions.find(third)
    begun(sessions, admin, token)
    assert (sessions.end_all(admin), sessions.end_all(admin)) == (2, 0)
    assert sessions.find(third) is None
    assert sessions.find(own)
    actions = [(row["action"], row["object_name"]) for row in rows(store, "audit") if row["object_name"] == "ops"]
    assert actions.count(("admin.log_in", "ops")) == 4
    assert actions.count(("admin.log_out", "ops")) == 3


def test_an_administrator_has_so_many_sessions_at_most(
    store: Store, sessions: AdminSessions, admins: Admins, root: AdminRecord, clock: StoreClock
) -> None:
    viewer, token = admins.create("reader", Role.VIEWER)
    of_other = begun(sessions, viewer, token)
    ids = []
    for number in range(MOST + 2):
        clock.set(clock.now + number)
        ids.append(begun(sessions, root))
    assert [bool(sessions.find(each)) for each in ids] == [False] * 2 + [True] * MOST
    assert sessions.find(of_other)
    clock.set(clock.now + LONGEST)
    begun(sessions, viewer, token)
    assert len(rows(store, "admin_session")) == 1


def test_a_form_is_accepted_once_after_the_other(sessions: AdminSessions, root: AdminRecord) -> None:
    session, other = found(sessions, begun(sessions, root)), found(sessions, begun(sessions, root))
    assert sessions.accept_form(session, "one")
    assert not sessions.accept_form(session, "one")
    assert sessions.accept_form(other, "one")
    assert sessions.accept_form(session, "two")
    sessions.end(session)
    assert not sessions.accept_form(session, "three")


def test_the_proof_of_a_form_differs_by_session_and_mark(sessions: AdminSessions) -> None:
    proofs = {sessions.mark_of(session_id, mark) for session_id in ("a", "b") for mark in ("", "x", "y")}
    assert len(proofs) == 6
