import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.stores.stores import (
    API_KEY,
    foreign_connection,
    foreign_lock,
    make_many_tokens,
    make_settings,
    make_token,
    opened,
    set_columns,
)

from manage_api.cli.rotation import run
from store.encryption.crypto import new_key
from store.encryption.keyfiles import ENCRYPTION_KEY_FILE
from store.management.projects import Projects
from store.management.tokens import Tokens
from store.operations import rotation
from store.runtime.settings import Settings
from store.store import Store

OLD, NEW = new_key(), new_key()
DONE = "Re-encrypted with the first key of the ring: keys of projects 1, tokens 1, secrets of the store 2.\n"
NEEDLESS = "Nothing in the store needs the other keys of the ring: take them out of ENCRYPTION_KEY and restart.\n"

type Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command with a ring; return its exit status, its output and its errors."""

    def run_it(*keys: str, stopped: bool = False) -> tuple[int, str, str]:
        return (run(settings_with(tmp_path, *keys), lambda: stopped), *capsys.readouterr())

    return run_it


def settings_with(folder: Path, *keys: str) -> Settings:
    return make_settings(folder, encryption_key=",".join(keys), store_timeout=0.2)


def test_a_rotation_prints_its_counts_and_that_the_other_keys_can_go(tmp_path: Path, run_with: Run) -> None:
    with opened(settings_with(tmp_path, OLD)) as store:
        make_token(store)
    assert run_with(NEW, OLD) == (0, DONE + NEEDLESS, "")
    assert run_with(NEW, OLD) == (0, "There was nothing to do.\n" + NEEDLESS, "")
    assert run_with(NEW) == (0, "There was nothing to do.\nEverything is under the only key of the ring.\n", "")


def test_a_rotation_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(settings_with(tmp_path, OLD)) as store:
        good = make_token(store)
        bad = make_token(store, project_id=good.project_id)

    def rotated(*keys: str, status: int = 0) -> dict[str, object]:
        assert run(settings_with(tmp_path, *keys), lambda: False, as_json=True) == status
        shown: dict[str, object] = json.loads(capsys.readouterr().out)
        return shown

    made = {"rows": {"project": 1, "token": 2, "secret": 2}, "unreadable": [], "unneeded_keys": "ENCRYPTION_KEY"}
    assert rotated(NEW, OLD) == made
    assert rotated(NEW) == made | {"rows": dict.fromkeys(("project", "token", "secret"), 0), "unneeded_keys": None}
    with opened(settings_with(tmp_path, NEW)) as store:
        set_columns(store, "token", bad.id, sealed_value=b"\x01" + bytes(80))
    reason = "The key that encrypted this is not in ENCRYPTION_KEY."
    shown = rotated(OLD, NEW, status=1)
    assert shown["unreadable"] == [{"table": "token", "row_id": bad.id, "reason": reason}]
    assert shown["unneeded_keys"] is None


def test_the_key_file_is_named_where_the_ring_is_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(tmp_path)
    with opened(settings):
        pass
    file = settings.data_dir / ENCRYPTION_KEY_FILE
    file.write_text(f"{NEW},{file.read_text()}")
    assert run(settings, lambda: False) == 0
    assert f"take them out of {file} and restart" in capsys.readouterr().out
    file.write_text(NEW)
    with opened(settings) as store:
        assert Projects(store).list() == []


def test_a_row_that_cannot_be_decrypted_is_listed_without_its_value(tmp_path: Path, run_with: Run) -> None:
    with opened(settings_with(tmp_path, OLD)) as store:
        good = make_token(store)
        bad = make_token(store, project_id=good.project_id)
        set_columns(store, "token", bad.id, sealed_value=b"\x01" + bytes(80))
    status, out, err = run_with(NEW, OLD)
    assert (status, out) == (1, DONE)
    assert err.startswith(f"token {bad.id}: The key that encrypted this is not in ENCRYPTION_KEY.\n")
    assert "No key of the ring decrypts these 1; they stay as they are." in err
    assert not any(secret in out + err for secret in (API_KEY, good.value, bad.value, OLD, NEW))
    with opened(settings_with(tmp_path, NEW)) as store:
        assert Tokens(store).get(good.id) == good


def test_a_stop_ends_a_rotation_after_a_batch_and_it_can_be_run_again(tmp_path: Path, run_with: Run) -> None:
    with opened(settings_with(tmp_path, OLD)) as store:
        make_token(store)
    status, out, err = run_with(NEW, OLD, stopped=True)
    assert (status, out) == (1, "")
    assert err == (
        "Stopped by a signal. Re-encrypted with the first key of the ring: keys of projects 1, tokens 0,"
        " secrets of the store 0. The ring opens the store as before: rotate again.\n"
    )
    assert run_with(NEW, OLD)[0] == 0


def test_a_locked_store_is_an_error(tmp_path: Path, run_with: Run) -> None:
    with opened(settings_with(tmp_path, OLD)) as store:
        make_token(store)
        with foreign_lock(store):
            status, out, err = run_with(NEW, OLD)
    assert (status, out) == (1, "")
    assert err.startswith("Another process has locked the store for longer than STORE_TIMEOUT (0.2 s). ")
    assert run_with(NEW, OLD) == (0, DONE + NEEDLESS, "")


def test_a_fault_of_the_store_is_an_error(tmp_path: Path, run_with: Run) -> None:
    with opened(settings_with(tmp_path, OLD)) as store:
        make_many_tokens(store, make_token(store).project_id, rotation.BATCH)
        break_updates(store)
    status, out, err = run_with(NEW, OLD)
    assert (status, out) == (1, "")
    assert err.startswith("The store does not answer: on purpose. ")


def test_a_ring_that_does_not_open_the_store_ends_the_command(
    tmp_path: Path, run_with: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(settings_with(tmp_path, OLD)):
        pass
    with pytest.raises(SystemExit) as ended:
        run_with(NEW)
    assert ended.value.code == 1
    assert "ENCRYPTION_KEY does not open this store" in capsys.readouterr().err


def break_updates(store: Store) -> None:
    with foreign_connection(store) as connection:
        connection.execute("CREATE TRIGGER fault BEFORE UPDATE ON token BEGIN SELECT raise(ABORT, 'on purpose'); END")
