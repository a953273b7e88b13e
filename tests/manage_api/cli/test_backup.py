import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support.stores.stores import make_settings, make_token, opened

from manage_api.cli.backup import run
from store.encryption.crypto import new_key
from store.encryption.keyfiles import ENCRYPTION_KEY_FILE
from store.runtime.settings import Settings

KEY = new_key()

type Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "copy.db"


@pytest.fixture
def run_with(file: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; return its exit status, its output and its errors."""

    def run_it(settings: Settings, *, stopped: bool = False) -> tuple[int, str, str]:
        return (run(settings, file, lambda: stopped), *capsys.readouterr())

    return run_it


def test_a_backup_prints_the_rows_and_a_reminder_of_the_key(tmp_path: Path, run_with: Run, file: Path) -> None:
    settings = make_settings(tmp_path)
    with opened(settings) as store:
        make_token(store)
    status, out, err = run_with(settings)
    assert (status, err) == (0, "")
    done, reminder = out.splitlines()
    assert re.fullmatch(
        rf"Backed up into {re.escape(str(file))}: projects 1, tokens 1, requests 0;"
        rf" {file.stat().st_size:,} bytes, checked, in \d+\.\d s\.",
        done,
    )
    assert f"the encryption key, which is not in it: keep {settings.data_dir / ENCRYPTION_KEY_FILE} too" in reminder


def test_a_backup_writes_json(tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(tmp_path)
    with opened(settings) as store:
        make_token(store)
    assert run(settings, file, lambda: False, as_json=True) == 0
    made = json.loads(capsys.readouterr().out)
    assert {name: made[name] for name in ("file", "bytes", "encryption_key")} == {
        "file": str(file),
        "bytes": file.stat().st_size,
        "encryption_key": str(settings.data_dir / ENCRYPTION_KEY_FILE),
    }
    assert (made["rows"]["project"], made["rows"]["token"], made["rows"]["request"]) == (1, 1, 0)
    assert made["seconds"] > 0


def test_a_key_of_the_environment_is_named_and_not_shown(tmp_path: Path, run_with: Run) -> None:
    settings = make_settings(tmp_path, encryption_key=KEY)
    with opened(settings):
        pass
    status, out, _ = run_with(settings)
    assert status == 0
    assert "keep ENCRYPTION_KEY too" in out
    assert KEY not in out


def test_a_backup_needs_no_key(tmp_path: Path, run_with: Run) -> None:
    settings = make_settings(tmp_path)
    with opened(settings):
        pass
    (settings.data_dir / ENCRYPTION_KEY_FILE).unlink()
    assert run_with(settings)[0] == 0


def test_an_existing_file_is_not_replaced(tmp_path: Path, run_with: Run, file: Path) -> None:
    file.write_text("kept")
    message = f"{file} is there already, and a backup replaces nothing: name another file.\n"
    assert run_with(make_settings(tmp_path)) == (1, "", message)
    assert file.read_text() == "kept"


def test_a_stop_is_reported(tmp_path: Path, run_with: Run, file: Path) -> None:
    settings = make_settings(tmp_path)
    with opened(settings):
        pass
    assert run_with(settings, stopped=True) == (1, "", "Stopped by a signal; no backup was made.\n")
    assert not file.exists()


def test_a_backup_of_postgresql_is_refused_with_the_right_tool(tmp_path: Path, run_with: Run, file: Path) -> None:
    settings = make_settings(tmp_path, database_url="postgresql://user:secret@host/db")
    status, out, err = run_with(settings)
    assert (status, out) == (1, "")
    assert "pg_dump" in err
    assert "secret" not in err
    assert not file.exists()
