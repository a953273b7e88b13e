"""The completion of a shell, as click's scripts ask for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.stores.stores import API_KEY, make_settings, make_token, opened

from manage_api.cli.commands import main
from store.management.admins import Admins, Role
from store.management.projects import Projects
from store.store import Store


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with opened(make_settings(folder)) as store:
        yield store


def complete(line: str, shell: str = "zsh") -> list[str]:
    """Return what is offered for the last word of a line."""
    words = line.split(" ")
    env = {"_LLM_PROXY_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    result = CliRunner().invoke(main, prog_name="llm-proxy", env=env)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    return [text.removeprefix("plain,") for text in (lines if shell == "bash" else lines[1::3])]


@pytest.mark.usefixtures("folder")
def test_commands_and_options_are_offered() -> None:
    assert complete("llm-proxy to") == ["token"]
    assert complete("llm-proxy token r") == ["revoke", "rotate"]
    assert complete("llm-proxy token update x --no-m") == ["--no-max-requests", "--no-model"]


def test_names_of_projects_and_tokens_are_offered(store: Store) -> None:
    project = Projects(store).create("Search", API_KEY)
    for name in ("Nightly index", "Nightly index", "Other"):
        make_token(store, project_id=project.id, name=name)
    Projects(store).create("Se\nparate", API_KEY)
    Admins(store).create("ops", Role.VIEWER)
    assert complete("llm-proxy token show N") == ["Nightly index"]
    assert complete("llm-proxy token show N", "bash") == [r"Nightly\\ index"]
    assert complete("llm-proxy project delete Se") == ["Search"]
    assert complete("llm-proxy token list --project ") == ["Search"]
    assert complete("llm-proxy usage --token O") == ["Other"]
    assert complete("llm-proxy admin disable ") == ["root", "ops"]
    assert complete("llm-proxy admin delete o") == ["ops"]


def test_where_names_cannot_be_read_there_are_none_and_no_error(folder: Path) -> None:
    assert complete("llm-proxy token show ") == []
    (folder / "data").mkdir()
    (folder / "data" / "llm-proxy.db").write_text("this is no database, but a text that is long enough to be read " * 9)
    assert complete("llm-proxy token show ") == []
    (folder / ".env").write_text("STORE_TIMEOUT=soon\n")
    assert complete("llm-proxy project show ") == []
