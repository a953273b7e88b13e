"""`llm-proxy price`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.stores.stores import API_KEY, make_settings, opened

from manage_api.cli.commands import main
from store.ledger.own_prices import RATES
from store.management.projects import Projects
from store.store import Store


@pytest.fixture(autouse=True)
def store(folder: Path) -> Iterator[Store]:
    """A store with the project Search."""
    with opened(make_settings(folder)) as store:
        Projects(store).create("Search", API_KEY)
        yield store


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["price", *arguments])


def shown(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_a_price_has_an_option_for_each_rate() -> None:
    rates = {name: f"1.{number}" for number, name in enumerate(RATES, 1)}
    options = [text for name, rate in rates.items() for text in (f"--{name.replace('_', '-')}", rate)]
    assert {name: rate.rstrip("0") for name, rate in shown("set", "--model", "gpt-x", *options)["rates"].items()} == {
        name: rate.rstrip("0") for name, rate in rates.items()
    }


def test_prices_are_set_listed_and_deleted() -> None:
    model = shown("set", "--model", "gpt-x", "--input", "2.5", "--output", "10")
    own = shown("set", "--model", "gpt-x", "--project", "Search", "--per-request", "0.01")
    assert shown("list") == [model, own]
    assert run("list").stdout.splitlines() == [
        "model  project  input  output  per request  id",
        f"gpt-x  any        2.5      10            -  {model['id']}",
        f"gpt-x  Search       -       -         0.01  {own['id']}",
    ]
    asked = run("delete", "--model", "gpt-x")
    assert (asked.exit_code, "The own price of gpt-x, all projects" in asked.stderr) == (2, True)
    assert shown("delete", "--model", "gpt-x", "--yes") == model
    assert shown("delete", own["id"], "--yes") == own
    assert shown("list") == []


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["set", "--input", "1"], 2, "--model, --project or both"),
        (["set", "--model", "gpt-x"], 2, "Name a rate at least: --input, --cached-input"),
        (["set", "--model", "gpt-x", "--cached-input", "1.1234567"], 1, "--cached-input must be a decimal number"),
        (["set", "--model", "", "--input", "1"], 1, "--model must not be empty."),
        (["delete"], 2, "Name the price"),
        (["delete", "--model", "gpt-y", "--yes"], 2, "There is no such price"),
    ],
)
def test_what_a_rule_refuses_ends_with_1_and_a_bad_command_line_with_2(
    arguments: list[str], status: int, message: str
) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout, message in result.stderr) == (status, "", True)
