import contextlib
import errno
import itertools
import os
import resource
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stores.ledger import settle_request
from support.stores.stores import make_many_tokens, make_settings, make_token, opened, path_of

from store.errors import BackupFailed
from store.management.tokens import Tokens
from store.operations import backup
from store.operations.backup import back_up
from store.store import Store

TOKENS = 500
"""Enough rows for several steps of the copying."""


def never() -> bool:
    return False


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(make_settings(tmp_path)) as store:
        token = make_token(store)
        make_many_tokens(store, token.project_id, TOKENS)
        settle_request(store, project_id=token.project_id, token_id=token.id)
        yield store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "backups with 100% of #odd? names"
    folder.mkdir()
    return folder


def check_refused(store: Path, file: Path, message: str) -> None:
    """Check that there is no backup, for this reason, and that nothing else was changed in the folder."""
    before = sorted(file.parent.iterdir())
    with pytest.raises(BackupFailed, match=message):
        back_up(store, file, never)
    assert sorted(file.parent.iterdir()) == before


def test_a_backup_is_one_file_that_opens_as_a_store(tmp_path: Path, store: Store, folder: Path) -> None:
    file = folder / "copy.db"
    done = back_up(path_of(store), file, never)
    assert {table: done.rows[table] for table in ("project", "token", "request", "daily_usage", "secret")} == {
        "project": 1,
        "token": TOKENS + 1,
        "request": 1,
        "daily_usage": 1,
        "secret": 2,
    }
    assert list(folder.iterdir()) == [file]
    assert file.stat().st_size == done.size
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes()[18:20] == b"\1\1"  # no write-ahead log: https://www.sqlite.org/fileformat.html
    expected = Tokens(store).list()
    store.database.close()

    (tmp_path / "restored").mkdir()
    file.rename(tmp_path / "restored" / "llm-proxy.db")
    (tmp_path / "data" / "encryption_key").rename(tmp_path / "restored" / "encryption_key")
    with opened(make_settings(tmp_path, data_dir=tmp_path / "restored")) as restored:
        assert Tokens(restored).list() == expected


def test_a_backup_of_a_closed_store_includes_rows_that_are_in_its_log_only(
    tmp_path: Path, store: Store, folder: Path
) -> None:
    killed = tmp_path / "killed"
    killed.mkdir()
    for file in path_of(store).parent.glob("llm-proxy.db*"):  # as `kill -9` leaves it: nothing is checkpointed
        (killed / file.name).write_bytes(file.read_bytes())
    (killed / "llm-proxy.db-shm").unlink()
    assert (killed / "llm-proxy.db-wal").stat().st_size > 0
    assert back_up(killed / "llm-proxy.db", folder / "copy.db", never).rows["token"] == TOKENS + 1


def test_a_backup_is_a_snapshot_while_others_write(store: Store, folder: Path) -> None:
    """Two rows always change together, in a process that writes between any two steps of the copying."""
    connection = sqlite3.connect(path_of(store), isolation_level=None)
    (first,), (last,) = connection.execute("SELECT min(id) FROM token UNION ALL SELECT max(id) FROM token").fetchall()
    steps = itertools.count()

    def write() -> bool:
        count = next(steps)
        connection.execute("UPDATE token SET request_count = ? WHERE id IN (?, ?)", (count, first, last))
        connection.execute("INSERT INTO instance (id, beats) VALUES (?, 0)", (str(count),))
        return False

    with contextlib.closing(connection), pytest.MonkeyPatch.context() as patch:
        patch.setattr(backup, "PAGES", 10)
        patch.setattr(backup, "OPERATIONS", 10_000)
        done = back_up(path_of(store), folder / "copy.db", write)
    assert next(steps) > 10
    assert done.rows["instance"] == 0
    with contextlib.closing(sqlite3.connect(folder / "copy.db")) as copy:
        assert copy.execute("SELECT DISTINCT request_count FROM token").fetchall() == [(0,)]


def test_a_backup_ends_beside_a_writer_that_never_pauses(store: Store, folder: Path) -> None:
    done = threading.Event()

    def write() -> None:
        with contextlib.closing(sqlite3.connect(path_of(store), isolation_level=None)) as connection:
            while not done.is_set():
                connection.execute("UPDATE token SET request_count = request_count + 1")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        back_up(path_of(store), folder / "copy.db", never)
    finally:
        done.set()
        writer.join()
    with contextlib.closing(sqlite3.connect(folder / "copy.db")) as copy:
        assert len(copy.execute("SELECT DISTINCT request_count FROM token").fetchall()) == 1


@pytest.mark.parametrize("kind", ["file", "folder", "link to nothing"])
def test_an_existing_file_is_not_replaced(store: Store, folder: Path, kind: str) -> None:
    file = folder / "copy.db"
    if kind == "file":
        file.write_text("kept")
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to(folder / "nothing")
    check_refused(path_of(store), file, "is there already")
    assert kind != "file" or file.read_text() == "kept"


def test_a_file_that_appears_during_the_backup_is_not_replaced(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "copy.db"
    monkeypatch.setattr(backup, "_check", lambda *_: file.write_text("kept"))
    with pytest.raises(BackupFailed, match="is there already"):
        back_up(path_of(store), file, never)
    assert [(found.name, found.read_text()) for found in folder.iterdir()] == [("copy.db", "kept")]


def test_a_backup_works_without_hard_links(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    back_up(path_of(store), folder / "copy.db", never)
    assert [file.name for file in folder.iterdir()] == ["copy.db"]


@pytest.mark.parametrize("looks", [0, 3, 9])
def test_a_stopped_backup_leaves_nothing(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    monkeypatch.setattr(backup, "PAGES", 100)
    monkeypatch.setattr(backup, "OPERATIONS", 1_000)
    looked = itertools.count()
    with pytest.raises(BackupFailed, match="Stopped by a signal; no backup was made"):
        back_up(path_of(store), folder / "copy.db", lambda: next(looked) >= looks)
    assert list(folder.iterdir()) == []


def test_a_backup_is_stopped_while_the_copy_is_verified(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copying is one step, and checks for a stop once."""
    monkeypatch.setattr(backup, "PAGES", 1_000_000)
    monkeypatch.setattr(backup, "OPERATIONS", 1_000)
    looked = itertools.count()
    with pytest.raises(BackupFailed, match="Stopped by a signal; no backup was made"):
        back_up(path_of(store), folder / "copy.db", lambda: next(looked) >= 1)
    assert list(folder.iterdir()) == []


def test_a_full_disk_leaves_nothing(store: Store, folder: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # Python ignores the signal: a write fails
    try:
        check_refused(path_of(store), folder / "copy.db", "No backup was made: .*(disk|full|I/O)")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_fault_of_the_disk_at_the_end_leaves_nothing(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    check_refused(path_of(store), folder / "copy.db", "No backup was made: No space left on device: .*copy.db")


def test_a_missing_folder_is_named(store: Store, folder: Path) -> None:
    with pytest.raises(BackupFailed, match=r"No such file or directory: .*nowhere"):
        back_up(path_of(store), folder / "nowhere" / "copy.db", never)


def test_a_missing_store_is_not_made(tmp_path: Path, folder: Path) -> None:
    store = tmp_path / "data" / "nothing.db"
    check_refused(store, folder / "copy.db", f"there is no store at {store}")
    assert not store.parent.exists()


def test_a_file_that_is_no_store_is_rejected(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "text.db").write_text("no database" * 100)
    check_refused(tmp_path / "text.db", folder / "copy.db", "file is not a database")
    (tmp_path / "empty.db").touch()
    check_refused(tmp_path / "empty.db", folder / "copy.db", "there is no store in the database")


def write_directly(store: Store, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path_of(store), isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_damaged_index_is_found(store: Store, folder: Path) -> None:
    of_another_column = "UPDATE sqlite_schema SET sql = replace(sql, 'project_id\")', 'lookup\")')"
    index = f"{of_another_column} WHERE name = 'token_project_id'"
    write_directly(store, "PRAGMA writable_schema = 1", index)
    check_refused(path_of(store), folder / "copy.db", "the copy, and so the store, is damaged: ")


def test_a_row_that_refers_to_nothing_is_found(store: Store, folder: Path) -> None:
    write_directly(store, "PRAGMA foreign_keys = 0", "DELETE FROM project")
    check_refused(path_of(store), folder / "copy.db", "a row refers to one that is not there")
