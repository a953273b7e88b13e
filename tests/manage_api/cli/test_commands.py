"""What all commands have in common: the settings that they read, and the folders that they use."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.stores import make_settings, make_token, opened

from manage_api.cli.commands import main
from store.lifecycle import STOP_SIGNALS


@pytest.fixture(autouse=True)
def _stop_signals_are_as_before() -> Iterator[None]:
    """Commands that end well at a signal leave handlers of their own."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(*arguments: str, **env: str) -> Result:
    return CliRunner().invoke(main, arguments, env=env)


def test_relative_paths_of_the_command_line_are_the_callers_and_those_of_settings_are_not(
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
