"""`llm-proxy project`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.openapi import DOCUMENT
from support.stores.stores import API_KEY, make_settings, make_token, opened, rows

from manage_api.cli.commands import main
from store.management.projects import Projects
from store.store import Store

OTHER_KEY = "sk-another-upstream-key-0123456789"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    """A store. A command opens it for itself: change it by commands after the first one."""
    with opened(make_settings(folder)) as store:
        yield store


def run(*arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(main, ["project", *arguments], input=given)


def shown(*arguments: str, given: str = "") -> Any:
    result = run(*arguments, "--json", given=given)
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def key_of(store: Store) -> str:
    (row,) = rows(store, "project")
    return store.vault.open_api_key(row["id"], bytes(row["sealed_api_key"]))


@pytest.mark.parametrize("line", [f"{API_KEY}\n", f"{API_KEY}\r\nanother line\n", API_KEY])
def test_the_key_is_the_first_line_of_standard_input(store: Store, line: str) -> None:
    made = shown("create", "Search", "--limit", "500/minute", "--ip", "::1", given=line)
    assert (made["name"], made["allowed_ips"], key_of(store)) == ("Search", ["::1"], API_KEY)
    assert run("update", "Search", "--key", given=f"{OTHER_KEY}\n").exit_code == 0
    assert key_of(store) == OTHER_KEY


def test_on_a_terminal_the_key_is_asked_for_without_an_echo(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manage_api.cli.asking._is_terminal", lambda: True)
    result = run("create", "Search", given=f"{API_KEY}\n")
    assert result.exit_code == 0
    assert result.stderr == "The upstream's API key (hidden): \n"
    assert key_of(store) == API_KEY


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "The key must not be empty."),
        ("two words", "The key must have visible ASCII characters alone"),
        ("k\u00e9y", "The key must have visible ASCII characters alone"),
        ("x" * 5000, "The key must have at most 4096 characters."),
        ("sk-admin-0123456789", "The key begins with sk-admin-"),
    ],
)
def test_a_bad_key_is_refused_and_not_quoted(line: str, message: str) -> None:
    result = run("create", "Search", given=line)
    assert (result.exit_code, result.stdout, result.stderr.startswith(message)) == (1, "", True)
    assert not line or line not in result.stderr
    assert shown("list") == []


def test_a_project_is_listed_shown_and_changed(store: Store) -> None:
    Projects(store).create("Search", API_KEY, rate_limits=[{"requests": 500, "per": "minute"}])
    made = shown("show", "Search")
    assert made.keys() == DOCUMENT["components"]["schemas"]["Project"]["properties"].keys()
    changed = shown("update", "Search", "--name", "Find", "--disable", "--budget", "300/month", "--no-limit")
    assert (changed["name"], changed["is_active"], changed["rate_limits"]) == ("Find", False, None)
    assert shown("list") == [changed]
    titles, line = run("list").stdout.splitlines()
    assert titles.split() == ["name", "status", "created", "(UTC)", "limits", "id"]
    assert line.split()[:2] + line.split()[-3:] == ["Find", "disabled", "300", "usd/month", made["id"]]
    assert "\nusd/month   300     0         0        300  " in run("show", "Find").stdout
    assert shown("update", made["id"], "--enable")["is_active"] is True
    nothing = run("update", "Find")
    assert (nothing.exit_code, "Nothing is to be changed" in nothing.stderr) == (2, True)


def test_a_deletion_says_what_is_lost_and_needs_a_yes(store: Store) -> None:
    project_id = make_token(store).project_id
    make_token(store, project_id=project_id)
    asked = run("delete", "Tests")
    assert asked.exit_code == 2
    assert f"Tests ({project_id}) is deleted for good, with its key, its prices and its tokens (2)" in asked.stderr
    assert len(shown("list")) == 1
    assert run("delete", "Tests", "--yes").stdout == f"Deleted: project Tests ({project_id}).\n"
    assert shown("list") == []
    assert run("delete", "Tests", "--yes").exit_code == 2


def test_a_name_of_several_is_refused_with_the_candidates(store: Store) -> None:
    first, second = (Projects(store).create("Same", API_KEY).id for _ in range(2))
    for verb in (["show"], ["update", "--disable"], ["delete", "--yes"]):
        result = run(*verb, "Same")
        assert (result.exit_code, result.stdout) == (4, "")
        assert "2 projects have this name. Give the id:\n\nid " in result.stderr
        assert all(f"\n{each}  2" in result.stderr for each in (first, second))
    assert CliRunner().invoke(main, ["usage", "--project", "Same"]).exit_code == 4
    assert len(shown("list")) == 2
    assert shown("delete", first, "--yes")["id"] == first
    assert shown("show", "Same")["id"] == second
