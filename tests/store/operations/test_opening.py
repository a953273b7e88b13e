import base64
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.gateway.processes import DEADLINE, ROOT, clean_environment
from support.stores.postgresql import Server
from support.stores.schemas import KEY, SCHEMAS, make_store
from support.stores.stores import API_KEY, make_settings, on_sqlite, opened, path_of, rows, tree

from store.database import open_database
from store.database.models import MODELS
from store.database.sqlite import LOCK_SLICE
from store.encryption.crypto import new_key
from store.encryption.keyfiles import ENCRYPTION_KEY_FILE, MANAGEMENT_TOKEN_FILE
from store.errors import StartupError
from store.management.projects import Projects
from store.operations import opening
from store.operations.opening import open_existing, open_store
from store.runtime.settings import Settings

OPEN_AND_TELL = """
import sys
import threading
from store.operations.opening import management_token, open_store
from store.runtime.settings import Settings
settings = Settings.load()
print("ready", flush=True)
sys.stdin.readline()
store = open_store(settings)
print(store.vault.lookup("6fd5ce84-0efa-4d8d-9dbd-8de4ab5e8b1b"), management_token(settings), flush=True)
store.database.close()
"""


@pytest.fixture
def empty_database(postgresql_server: Server) -> str:
    return postgresql_server.make_database()


@on_sqlite
def test_a_fresh_folder_becomes_a_store_for_its_owner_alone(settings: Settings) -> None:
    with opened(settings) as store:
        assert Projects(store).list() == []
        assert store.database.execute("PRAGMA journal_mode", ()) == [("wal",)]
        assert store.database.execute("PRAGMA foreign_keys", ()) == [(1,)]
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((settings.data_dir / ENCRYPTION_KEY_FILE).stat().st_mode) == 0o600


def test_a_second_start_opens_what_the_first_made(settings: Settings) -> None:
    with opened(settings) as store:
        project = Projects(store).create("One", API_KEY)
        lookup = store.vault.lookup("x")
    with opened(settings) as store:
        assert Projects(store).list() == [project]
        assert store.vault.lookup("x") == lookup


@pytest.mark.parametrize("name", ["with blank", "hash#mark", "per%41cent", "question?mark", "ümläut", "semi;colon"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    settings = make_settings(tmp_path, data_dir=tmp_path / name)
    with opened(settings):
        assert (tmp_path / name / "llm-proxy.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_processes_that_open_a_fresh_folder_at_once_agree(tmp_path: Path) -> None:
    env = {**clean_environment(), "DATA_DIR": str(tmp_path / "data"), "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_AND_TELL],
            env=env,
            cwd=tmp_path,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=DEADLINE) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert len({out for out, _ in outputs}) == 1


def test_a_wrong_key_ends_the_start_with_a_message(tmp_path: Path) -> None:
    with opened(make_settings(tmp_path, encryption_key=new_key())):
        pass
    with pytest.raises(StartupError, match="ENCRYPTION_KEY does not open this store"):
        open_store(make_settings(tmp_path, encryption_key=new_key()))


def test_a_ring_opens_a_store_that_any_of_its_keys_made(tmp_path: Path) -> None:
    old, new = new_key(), new_key()
    with opened(make_settings(tmp_path, encryption_key=old)) as store:
        lookup = store.vault.lookup("x")
    for ring in (f"{old},{new}", f"{new},{old}"):
        with opened(make_settings(tmp_path, encryption_key=ring)) as store:
            assert store.vault.lookup("x") == lookup


def test_a_filled_store_without_its_key_file_is_not_given_a_new_key(settings: Settings) -> None:
    with opened(settings):
        pass
    key_file = settings.data_dir / ENCRYPTION_KEY_FILE
    key_file.unlink()
    with pytest.raises(StartupError, match="there is no key: set ENCRYPTION_KEY"):
        open_store(settings)
    assert not key_file.exists()


@on_sqlite
@pytest.mark.parametrize("content", [b"", b"\n", b"nonsense\n", b"\xff\xfe\x00", base64.b64encode(b"short")])
@pytest.mark.parametrize("filled", [True, False], ids=["filled store", "new store"])
def test_a_damaged_key_file_ends_the_start_and_stays(settings: Settings, content: bytes, filled: bool) -> None:
    if filled:
        with opened(settings):
            pass
    else:
        settings.data_dir.mkdir()
    key_file = settings.data_dir / ENCRYPTION_KEY_FILE
    key_file.write_bytes(content)
    with pytest.raises(StartupError, match=f"{ENCRYPTION_KEY_FILE} .*is damaged"):
        open_store(settings)
    assert key_file.read_bytes() == content


def test_a_newer_schema_is_refused(settings: Settings) -> None:
    with opened(settings) as store:
        (history,) = set(store.database.engine.get_tables()) - {model._meta.table_name for model in MODELS}  # noqa: SLF001
        newer = {**rows(store, history)[0], "id": 9999, "name": "9999_future"}
        with store.database.write():
            places = ", ".join("?" * len(newer))
            store.database.run(
                f"INSERT INTO {history} ({', '.join(newer)}) VALUES ({places})",  # noqa: S608
                list(newer.values()),
            )
    with pytest.raises(StartupError, match=r"newer than this program \(it has 9999_future\)"):
        open_store(settings)


def test_an_existing_store_is_opened_as_it_is_and_nothing_is_made(settings: Settings, tmp_path: Path) -> None:
    with opened(settings) as store:
        project = Projects(store).create("One", API_KEY)
        if not settings.database_url:
            path_of(store).with_name("llm-proxy.db.lock").unlink()
    key = (settings.data_dir / ENCRYPTION_KEY_FILE).read_text().strip()
    (settings.data_dir / ENCRYPTION_KEY_FILE).unlink()
    elsewhere = make_settings(tmp_path / "elsewhere", database_url=settings.store_url, encryption_key=key)
    before = tree(tmp_path)
    store = open_existing(elsewhere)
    assert Projects(store).list() == [project]
    store.database.close()
    assert tree(tmp_path) == before


def test_opening_an_existing_store_makes_none_where_there_is_none(
    tmp_path: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    url = "" if engine == "sqlite" else request.getfixturevalue("empty_database")
    settings = make_settings(tmp_path / "parent", database_url=url)
    shown = url.replace("postgres@", "") or f"sqlite:///{settings.data_dir}/llm-proxy.db"
    for _ in range(2):
        with pytest.raises(StartupError, match=rf"^There is no store at {re.escape(shown)}\. "):
            open_existing(settings)
    assert tree(tmp_path) == {}
    if url:
        database = open_database(url, 2)
        assert database.engine.get_tables() == []
        database.close()


def test_empty_tables_are_no_store(settings: Settings) -> None:
    opening.migrate_store(settings, lambda _: None)
    before = tree(settings.data_dir)
    with pytest.raises(StartupError, match="There is no store at"):
        open_existing(settings)
    assert tree(settings.data_dir) == before


@on_sqlite
def test_a_file_without_tables_is_no_store(settings: Settings) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / "llm-proxy.db").touch()
    before = tree(settings.data_dir)
    with pytest.raises(StartupError, match="There is no store at"):
        open_existing(settings)
    assert tree(settings.data_dir) == before


def test_an_existing_store_of_an_older_version_is_not_migrated(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, encryption_key=KEY)
    make_store(settings, SCHEMAS[0])
    before = tree(tmp_path)
    with pytest.raises(
        StartupError, match=rf"older than this program \(it lacks {', '.join(SCHEMAS[1:])}\).* migrate "
    ):
        open_existing(settings)
    assert tree(tmp_path) == before


def test_an_existing_store_without_its_key_is_not_given_one(settings: Settings) -> None:
    with opened(settings):
        pass
    (settings.data_dir / ENCRYPTION_KEY_FILE).unlink()
    with pytest.raises(StartupError, match="there is no key: set ENCRYPTION_KEY"):
        open_existing(settings)
    assert not (settings.data_dir / ENCRYPTION_KEY_FILE).exists()


@on_sqlite
def test_a_file_in_place_of_the_folder_is_not_reported_as_a_missing_store(settings: Settings) -> None:
    settings.data_dir.write_text("a file")
    with pytest.raises(StartupError, match=r"Cannot open the store sqlite:///.*Not a directory"):
        open_existing(settings)


@on_sqlite
def test_a_file_in_place_of_the_folder_ends_the_start(settings: Settings) -> None:
    settings.data_dir.write_text("a file")
    with pytest.raises(StartupError, match="Cannot use DATA_DIR"):
        open_store(settings)


@on_sqlite
def test_a_file_that_is_no_database_ends_the_start(settings: Settings) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / "llm-proxy.db").write_text("no database, but long enough to look like one" * 100)
    with pytest.raises(StartupError, match="not a database"):
        open_store(settings)


def test_a_database_in_a_missing_folder_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="No such file or directory"):
        open_store(make_settings(tmp_path, database_url=f"sqlite:///{tmp_path}/missing/x.db"))


@pytest.mark.parametrize("slashes", ["///", "////"])
def test_a_url_is_relative_or_absolute(tmp_path: Path, slashes: str) -> None:
    rest = "x.db" if slashes == "///" else f"{tmp_path}/x.db".lstrip("/")
    with opened(make_settings(tmp_path, database_url=f"sqlite:{slashes}{rest}")):
        assert (tmp_path / "x.db").is_file()


@on_sqlite
def test_a_management_token_is_made_once(settings: Settings) -> None:
    opening.prepare_folder(settings.data_dir)
    token = opening.management_token(settings)
    assert len(token) >= 32
    assert opening.management_token(settings) == token
    assert stat.S_IMODE((settings.data_dir / MANAGEMENT_TOKEN_FILE).stat().st_mode) == 0o600


def test_a_management_token_that_is_set_is_not_written(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, management_token="a-management-token")
    opening.prepare_folder(settings.data_dir)
    assert opening.management_token(settings) == "a-management-token"
    assert list(settings.data_dir.iterdir()) == []


@on_sqlite
@pytest.mark.parametrize("content", [b"", b"\n", b"short\n", b"\xff\xfe\x00"])
def test_a_damaged_management_token_opens_nothing(settings: Settings, content: bytes) -> None:
    opening.prepare_folder(settings.data_dir)
    (settings.data_dir / MANAGEMENT_TOKEN_FILE).write_bytes(content)
    with pytest.raises(StartupError, match=f"{MANAGEMENT_TOKEN_FILE} .*Remove it to get a new token"):
        opening.management_token(settings)


def test_a_store_that_others_lock_for_a_moment_is_opened(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    store = open_store(settings)
    store.database.close()
    locked = sqlite3.connect(path_of(store), isolation_level=None, check_same_thread=False)
    locked.execute("PRAGMA locking_mode = EXCLUSIVE")  # as one who closes the last connection, and empties the log
    locked.execute("BEGIN EXCLUSIVE")
    unlocking = threading.Timer(10 * LOCK_SLICE, locked.close)
    unlocking.start()
    open_store(settings).database.close()
    unlocking.join()
