import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from support.stores.ledger import PROJECT_ID, open_request, settle_request
from support.stores.schemas import KEY, SCHEMAS, TOKEN, make_store
from support.stores.stores import (
    make_many_tokens,
    make_settings,
    make_token,
    opened,
    path_of,
    rows,
    set_columns,
)

from store import schema
from store.database import Database, open_database
from store.database.models import MODELS
from store.encryption.crypto import new_key
from store.errors import CopyFailed, StartupError
from store.ledger import instances
from store.management.projects import Projects
from store.management.tokens import Tokens
from store.operations.copying import copier
from store.operations.copying.copier import Copied, copy
from store.operations.copying.digest import Digest
from store.operations.copying.tables import TABLES
from store.store import Store

if TYPE_CHECKING:
    from support.stores.postgresql import Server

IN_USE = "has been in use since it was copied"


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Store]:
    """A store on SQLite with rows in each table."""
    settings = make_settings(tmp_path, encryption_key=KEY)
    make_store(settings, SCHEMAS[-1])
    with opened(settings) as store:
        store.database.execute("DELETE FROM instance")
        yield store


@pytest.fixture
def target_url(postgresql_server: "Server") -> str:
    return postgresql_server.make_database()


@pytest.fixture
def target(source: Store, target_url: str) -> Iterator[Database]:
    database = open_database(target_url, 2)
    source.database.engine.bind(MODELS)  # for the changes that the tests make to the source
    yield database
    database.close()


def copied(source: Store, target: Database) -> Copied:
    return copy(source, target, lambda: False)


def content(database: Database) -> dict[str, list[Any]]:
    """Return all rows of all tables, as the copy compares them."""
    with database.read():
        return {
            table.name: sorted((table.fitted(row) for row in database.execute(table.select)), key=repr)
            for table in TABLES
        }


@contextlib.contextmanager
def past_all_checks(source: Store) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path_of(source), isolation_level=None)) as connection:
        yield connection


@contextlib.contextmanager
def unchanged(target: Database) -> Iterator[None]:
    before = content(target)
    yield
    assert content(target) == before


def test_all_rows_are_copied_and_the_copy_works(
    source: Store, target: Database, target_url: str, tmp_path: Path
) -> None:
    done = copied(source, target)
    assert content(target) == content(source.database)
    assert done.rows == {name: len(found) for name, found in content(source.database).items()}
    assert (done.replaced, done.unreadable, done.source_in_use) == (0, [], False)
    with opened(make_settings(tmp_path / "new", encryption_key=KEY, database_url=target_url)) as store:
        assert Tokens(store).get(TOKEN).value == TOKEN


def test_a_previous_value_works_in_a_copy_too(source: Store, target: Database, target_url: str, tmp_path: Path) -> None:
    token = make_token(source)
    rotated = Tokens(source).rotate(token.id, 3600)
    copied(source, target)
    with opened(make_settings(tmp_path / "new", encryption_key=KEY, database_url=target_url)) as store:
        assert Tokens(store).get(token.value) == Tokens(store).get(rotated.value) == rotated


def test_a_copy_is_replaced_by_the_next(source: Store, target: Database) -> None:
    copied(source, target)
    token = make_token(source)
    Tokens(source).revoke(TOKEN)
    copied(source, target)
    assert content(target) == content(source.database)
    Projects(source).delete(token.project_id)  # more rows in a target do not count as use
    copied(source, target)
    assert content(target) == content(source.database)


@pytest.mark.parametrize(
    "use",
    [
        "UPDATE token SET request_count = request_count + 1",
        "INSERT INTO instance (id, beats) VALUES ('x', 0)",
        "DELETE FROM price",
    ],
)
def test_a_target_that_was_used_is_not_replaced(source: Store, target: Database, use: str) -> None:
    copied(source, target)
    with target.write():
        target.run(use)
    with unchanged(target), pytest.raises(CopyFailed, match=IN_USE):
        copied(source, target)


def test_a_store_that_is_no_copy_is_not_replaced(
    source: Store, target: Database, target_url: str, tmp_path: Path
) -> None:
    with opened(make_settings(tmp_path / "other", database_url=target_url)):
        pass
    with unchanged(target), pytest.raises(CopyFailed, match="a store of its own"):
        copied(source, target)


def test_the_copy_of_another_store_is_not_replaced(source: Store, target: Database, tmp_path: Path) -> None:
    with opened(make_settings(tmp_path / "other", encryption_key=KEY)) as other:
        copied(other, target)
    with unchanged(target), pytest.raises(CopyFailed, match="the copy of another store"):
        copied(source, target)


def test_a_copy_into_itself_is_refused(source: Store) -> None:
    itself = open_database(f"sqlite:///{path_of(source)}", 2)
    with unchanged(source.database), pytest.raises(CopyFailed, match="a store of its own"):
        copied(source, itself)
    itself.close()


def test_a_rotated_source_is_still_the_same_store(source: Store, target: Database, tmp_path: Path) -> None:
    copied(source, target)
    settings = make_settings(tmp_path, encryption_key=f"{new_key()},{KEY}")
    with opened(settings) as rotated:
        row = rows(rotated, "secret")[0]
        with rotated.database.write():
            resealed = rotated.vault.ring.encrypt(b"llm-proxy", "secret:sealed:check")
            rotated.database.run("UPDATE secret SET sealed = ? WHERE name = 'check'", (resealed,))
        assert row
        copied(rotated, target)
        assert content(target) == content(rotated.database)


def test_targets_of_other_versions_are_refused(
    source: Store, target: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    older.mkdir()
    first = schema.MIGRATIONS / "0001_initial.py"
    (older / first.name).write_text(first.read_text())
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", older)
        schema.migrate(target)
    with pytest.raises(CopyFailed, match="older version"):
        copied(source, target)
    assert "request" not in target.engine.get_tables()
    schema.migrate(target)
    with target.write():
        target.run("INSERT INTO schema_migration (name, applied) VALUES ('9999_later', now())")
    with unchanged(target), pytest.raises(StartupError, match="newer than this program"):
        copied(source, target)


def test_concurrent_writes_are_not_copied_in_part(
    source: Store, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_many_tokens(source, rows(source, "project")[0]["id"], 30)
    before = content(source.database)
    monkeypatch.setattr(copier, "BATCH", 7)
    looks = iter(range(1000))

    def write() -> None:
        make_token(source)
        source.database.close()

    def use() -> bool:
        if next(looks) == 4:  # the first rows are copied
            thread = threading.Thread(target=write)
            thread.start()
            thread.join()
        return False

    copy(source, target, use)
    assert next(looks) > 5
    assert content(target) == before
    assert len(rows(source, "token")) == len(before["token"]) + 1


@pytest.mark.parametrize("moment", [0, 4, 9, 15])
def test_a_copy_that_is_stopped_changes_nothing(source: Store, target: Database, moment: int) -> None:
    copied(source, target)
    make_token(source)
    looks = iter(range(1000))
    with unchanged(target), pytest.raises(CopyFailed, match="Stopped by a signal"):
        copy(source, target, lambda: next(looks) >= moment)
    copied(source, target)
    assert content(target) == content(source.database)


def test_a_connection_that_is_cut_changes_nothing(source: Store, target: Database, target_url: str) -> None:
    copied(source, target)
    make_token(source)
    looks = iter(range(1000))

    def cut() -> bool:
        if next(looks) == 12:
            with psycopg.connect(target_url, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        return False

    with unchanged(target), pytest.raises(CopyFailed, match="The target does not answer"):
        copy(source, target, cut)
    copied(source, target)


def test_a_locked_target_is_reported_as_in_use(
    source: Store, target: Database, target_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copier, "PATIENCE", 0.05)
    copied(source, target)
    with psycopg.connect(target_url) as other:
        other.execute("SELECT count(*) FROM token")
        with pytest.raises(CopyFailed, match="The target is in use: "):
            copied(source, target)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("UPDATE token SET max_requests = 'secret-value'", "its max_requests is no whole number of 64 bits"),
        ("UPDATE token SET max_requests = 1.5", "its max_requests is no whole number of 64 bits"),
        ("UPDATE token SET is_active = 2", "its is_active is neither true nor false"),
        ("UPDATE token SET sealed_value = 'secret-value'", "its sealed_value holds no bytes"),
        ("UPDATE token SET lookup = lookup || 'secret-value'", "its lookup is longer than 64 characters"),
        ("UPDATE token SET lookup = x'00'", "its lookup holds no text"),
        ("UPDATE token SET project_id = 'secret-value'", "it refers to a row that is not there"),
    ],
)
def test_a_row_that_does_not_fit_is_named_without_quoting_it(
    source: Store, target: Database, change: str, fault: str
) -> None:
    token_id = Tokens(source).get(TOKEN).id
    with past_all_checks(source) as connection:
        connection.execute(f"{change} WHERE id = ?", (token_id,))
    with pytest.raises(CopyFailed) as raised:
        copied(source, target)
    assert str(raised.value) == f"token {token_id}: {fault}."
    assert not any(content(target).values())


def test_a_status_that_is_too_large_is_named(source: Store, target: Database) -> None:
    row = open_request(source, status=2**31)
    with pytest.raises(CopyFailed, match=f"request {row['id']}: its status is no whole number of 32 bits"):
        copied(source, target)


def test_characters_that_no_database_stores_are_replaced(source: Store, target: Database) -> None:
    row = open_request(source)
    with past_all_checks(source) as connection:
        connection.execute(
            "UPDATE request SET path = 'a' || char(0), model = CAST(x'61ff' AS TEXT) WHERE id = ?", [row["id"]]
        )
    assert copied(source, target).replaced == 1  # bytes that are no UTF-8 are replaced as they are read
    with target.read():
        assert target.execute("SELECT path, model FROM request WHERE id = ?", [row["id"]]) == [("a\ufffd", "a\ufffd")]


def test_a_row_whose_key_becomes_a_duplicate_is_named(source: Store, target: Database) -> None:
    for model in ("a\0", "a\ufffd"):
        settle_request(source, model=model)
    with pytest.raises(CopyFailed) as raised:
        copied(source, target)
    assert str(raised.value).startswith("hourly_usage ")
    assert PROJECT_ID in str(raised.value)
    assert str(raised.value).endswith(": the target refuses it: UniqueViolation hourly_usage_pkey.")


def test_ciphertexts_that_no_key_opens_are_copied_and_named(source: Store, target: Database) -> None:
    token_id = Tokens(source).get(TOKEN).id
    set_columns(source, "token", token_id, sealed_value=b"\x01broken")
    assert copied(source, target).unreadable == [f"token {token_id}"]
    assert content(target) == content(source.database)


def test_a_copy_that_differs_is_not_kept(source: Store, target: Database, target_url: str) -> None:
    schema.migrate(target)
    target.close()
    with psycopg.connect(target_url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN NEW.name = NEW.name || 1; RETURN NEW; END'"
        )
        connection.execute("CREATE TRIGGER spoil BEFORE INSERT ON project FOR EACH ROW EXECUTE FUNCTION spoil()")
    with pytest.raises(CopyFailed, match="project: what the target has differs from what was copied"):
        copied(source, target)
    assert not any(content(target).values())


def test_a_process_that_uses_the_source_is_reported(
    source: Store, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copier, "HEARTBEAT", 0.01)
    instances.beat(source.database, "a-proxy")
    assert not copied(source, target).source_in_use  # it has died
    other = open_database(f"sqlite:///{path_of(source)}", 2)

    def beat(_: object) -> dict[str, Digest]:
        instances.beat(other, "a-proxy")
        return {}

    monkeypatch.setattr("store.operations.copying.copier._Copier._replace", beat)
    assert copied(source, target).source_in_use
    other.close()


def test_a_copy_can_be_copied_back(source: Store, target: Database, tmp_path: Path) -> None:
    copied(source, target)
    back = open_database(f"sqlite:///{tmp_path / 'back.db'}", 2)
    for _ in range(2):
        copied(Store(target, source.vault), back)
        assert content(back) == content(source.database)
    with back.write():
        back.run("UPDATE token SET request_count = request_count + 1")
    with unchanged(back), pytest.raises(CopyFailed, match=IN_USE):
        copied(Store(target, source.vault), back)
    back.close()
