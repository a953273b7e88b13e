"""The settings and folders of all commands."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.stores.postgresql import Server
from support.stores.schemas import KEY, SCHEMAS, make_store
from support.stores.stores import make_settings, make_token, opened, tree

from manage_api.cli.commands import main
from store.database import open_database
from store.encryption.keyfiles import MANAGEMENT_TOKEN_FILE

READING = {
    "admin list": (["admin", "list"], 1),
    "audit": (["audit"], 1),
    "usage": (["usage"], 1),
    "requests": (["requests"], 1),
    "reconcile": (["reconcile", "usage.csv", "--day", "date", "--cost", "usd"], 1),
    "rotate": (["rotate"], 1),
    "backup": (["backup", "copy.db"], 1),
    "copy": (["copy", "--to", "sqlite:///copy.db"], 1),
    "migrate --dry-run": (["migrate", "--dry-run"], 3),
    "token list": (["token", "list"], 1),
    "project delete": (["project", "delete", "Search", "--yes"], 1),
}
"""The commands that need a store, each with its status without one."""

on_each = pytest.mark.parametrize("name", READING)


def run(*arguments: str, **env: str) -> Result:
    return CliRunner().invoke(main, arguments, env=env)


@on_each
@pytest.mark.parametrize("url", ["", "sqlite:///deep/below/x.db"])
def test_without_a_store_nothing_is_made(folder: Path, name: str, url: str) -> None:
    arguments, status = READING[name]
    result = run(*arguments, DATA_DIR="parent/data", DATABASE_URL=url)
    assert (result.exit_code, bool(result.stdout)) == (status, status == 3)
    if status == 1:
        place = "deep/below/x.db" if url else f"{folder}/parent/data/llm-proxy.db"
        assert "here is no store at" in result.stderr
        assert place in result.stderr
    assert tree(folder) == {}


@pytest.mark.parametrize("name", [name for name in READING if name != "backup"])
def test_an_empty_database_of_postgresql_stays_empty(folder: Path, name: str, postgresql_server: Server) -> None:
    url = postgresql_server.make_database()
    arguments, status = READING[name]
    result = run(*arguments, DATABASE_URL=url.replace("postgres@", "postgres:hush-hush@"))
    assert (result.exit_code, "There is no store at postgresql://127" in result.stderr) == (status, status == 1)
    assert "hush-hush" not in result.output
    database = open_database(url, 2)
    with database.read():
        assert database.engine.get_tables() == []
    database.close()
    assert tree(folder) == {}


@pytest.mark.parametrize(
    "name", ["admin list", "audit", "usage", "requests", "reconcile", "rotate", "copy", "token list"]
)
def test_a_store_of_an_older_version_is_not_changed(folder: Path, name: str) -> None:
    make_store(make_settings(folder, encryption_key=KEY), SCHEMAS[0])
    before = tree(folder)
    result = run(*READING[name][0], ENCRYPTION_KEY=KEY)
    assert result.exit_code == 1
    assert "The command migrate brings it up to date" in result.stderr
    assert tree(folder) == before


def test_reading_makes_no_management_token_and_no_folder(folder: Path) -> None:
    with opened(make_settings(folder, encryption_key=KEY)) as store:
        make_token(store)
    before = tree(folder)
    url = f"sqlite:///{folder}/data/llm-proxy.db"
    result = run("usage", DATABASE_URL=url, DATA_DIR="elsewhere", ENCRYPTION_KEY=KEY)
    assert (result.exit_code, result.stderr) == (0, "")
    assert tree(folder) == before
    assert not (folder / "data" / MANAGEMENT_TOKEN_FILE).exists()


@on_each
def test_bad_settings_end_each_command(folder: Path, name: str) -> None:
    (folder / ".env").write_text("DATABSE_URL=sqlite:///hush-hush.db\n")
    result = run(*READING[name][0])
    assert result.exit_code == 2
    assert "DATABSE_URL in .env is no setting, and DATABASE_URL is not set" in result.stderr
    assert "hush-hush" not in result.output


@pytest.mark.parametrize("form", ["console", "json"])
def test_other_names_in_the_file_are_logged_in_one_warning(folder: Path, form: str) -> None:
    (folder / ".env").write_text(f"LOG_FORMAT={form}\nCOMPOSE_FILE=hush-hush\nTARGET_DATABASE_URL=hush-hush\n")
    result = run("migrate", "--dry-run")
    assert result.exit_code == 3
    (line,) = result.stderr.splitlines()
    warning = json.loads(line)["event"] if form == "json" else line
    assert "names in .env that are no settings: COMPOSE_FILE, TARGET_DATABASE_URL" in warning
    assert "hush-hush" not in result.output


def test_relative_paths_of_the_command_line_count_from_the_callers_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, caller = folder / "its home", folder / "my folder"
    home.mkdir()
    caller.mkdir()
    with opened(make_settings(home)) as store:
        make_token(store)
    monkeypatch.chdir(home)
    (home / ".env").write_text("DATA_DIR=data\n")
    done = run("--caller", str(caller), "backup", "my.db")
    assert done.stdout.startswith(f"Backed up into {caller}/my.db: projects 1, tokens 1, ")
    again = run("--caller", str(caller), "backup", "my.db")
    assert (again.exit_code, again.stderr.startswith(f"{caller}/my.db is there already")) == (1, True)
    for number, (arguments, env) in enumerate(
        [
            (("--to", "sqlite:///1.db"), {}),
            ((), {"TARGET_DATABASE_URL": "sqlite:///2.db"}),
            (("--to", f"sqlite:///{folder}/3.db"), {}),
        ]
    ):
        copied = run("--caller", str(caller), "copy", *arguments, **env)
        assert copied.exit_code == 0, copied.output
        assert (folder / "3.db" if number == 2 else caller / f"{number + 1}.db").is_file()
    assert run("backup", "here.db").exit_code == 0
    assert sorted(path.name for path in home.iterdir()) == [".env", "data", "here.db"]


def test_the_callers_folder_is_not_in_the_help() -> None:
    assert "--caller" not in CliRunner().invoke(main, ["--help"]).output
