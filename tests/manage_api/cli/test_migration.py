import contextlib
import json
import sqlite3
from pathlib import Path

import pytest
from support.stores.schemas import KEY, SCHEMAS, make_store
from support.stores.stores import make_settings, opened

from manage_api.cli import migration
from manage_api.cli.migration import preview, run

WOULD = "".join(f"Would migrate: {name}\n" for name in SCHEMAS)
DONE = "".join(f"Migrated: {name}\n" for name in SCHEMAS)


def test_a_dry_run_lists_the_migrations_and_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(tmp_path)
    assert (preview(settings), *capsys.readouterr()) == (3, WOULD, "")
    assert not settings.data_dir.exists()
    assert (run(settings), *capsys.readouterr()) == (0, f"{DONE}The schema is up to date.\n", "")
    files = {path: path.read_bytes() for path in settings.data_dir.iterdir()}
    nothing = "There is nothing to do. The schema is up to date.\n"
    assert (preview(settings), *capsys.readouterr()) == (0, nothing, "")
    assert {path: path.read_bytes() for path in settings.data_dir.iterdir()} == files
    nothing = "There was nothing to do. The schema is up to date.\n"
    assert (run(settings), *capsys.readouterr()) == (0, nothing, "")


def test_migrations_are_written_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(tmp_path)
    for command, status, shown in (
        (preview, 3, {"pending": [*SCHEMAS]}),
        (run, 0, {"migrated": [*SCHEMAS]}),
        (preview, 0, {"pending": []}),
        (run, 0, {"migrated": []}),
    ):
        assert command(settings, as_json=True) == status
        assert json.loads(capsys.readouterr().out) == shown


def test_an_old_store_gets_the_pending_migrations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(tmp_path, encryption_key=KEY)
    make_store(settings, SCHEMAS[0])
    assert preview(settings) == 3
    assert capsys.readouterr().out == "".join(f"Would migrate: {name}\n" for name in SCHEMAS[1:])
    assert run(settings) == 0


@pytest.mark.parametrize("command", [run, preview])
def test_a_newer_schema_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: type[object]) -> None:
    settings = make_settings(tmp_path)
    with opened(settings):
        pass
    with contextlib.closing(sqlite3.connect(settings.data_dir / "llm-proxy.db")) as connection, connection:
        connection.execute("INSERT INTO schema_migration (name, applied) VALUES ('9999_later', '2030-01-01')")
    with pytest.raises(SystemExit) as raised:
        command(settings)  # type: ignore[call-arg]
    assert raised.value.code == 1
    assert "newer than this program (it has 9999_later)" in capsys.readouterr().err


def test_a_signal_makes_it_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(migration, "migrate_store", interrupted)
    assert run(make_settings(tmp_path)) == 1
    assert capsys.readouterr().err == "Stopped by a signal. Migrate again for the rest.\n"
