"""The sessions of the pages print what stands there, but for ids, values and times.

The one of docs/getting-started.md is in functional/test_run_sh.py.
"""

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.pages import ROOT, steps, without_chance
from support.stores.ledger import refuse_request, settle_request
from support.stores.stores import API_KEY, make_settings, opened

from manage_api.cli.commands import main
from store import clock
from store.ledger.usage import Source
from store.management.tokens import Tokens

PAGES = ("README.md", "docs/cli.md", "docs/tokens.md", "docs/security.md")

WIDTH = 118
"""Columns of the terminal of the sessions."""

MADE = ' token create "Ann\'s laptop" --project Search --model'
"""The command after which there are requests."""

ELSEWHERE = ("./run.sh", "./run.sh demo", "git clone <the address of this repository> llm-proxy && cd llm-proxy")
"""Commands that functional/test_run_sh.py runs, and the one before them."""


def run(command: str) -> str:
    """Run a command as at a terminal: a key is pasted, and a question is answered with yes."""
    program, *arguments = shlex.split(command)
    assert program == "./run.sh"
    given = "y\n" if {"revoke", "delete"} & {*arguments} else f"{API_KEY}\n"
    result = CliRunner().invoke(main, arguments, input=given, prog_name="llm-proxy")
    return result.output


def make_requests(folder: Path) -> None:
    """Have the ledger hold some requests of both tokens, of the last hours."""
    now = clock.now()
    with opened(make_settings(folder)) as store:
        for token, model, number in zip(Tokens(store).list(), ("gpt-4o-mini", "gpt-4o"), (3, 5), strict=True):
            about = {"project_id": token.project_id, "token_id": token.id}
            for each in range(number):
                settle_request(
                    store,
                    **about,
                    started_at=now - (6 * number + each) * clock.MINUTE,
                    usage_source=Source.OBSERVED,
                    model=model,
                    input_tokens=1200 + each,
                    output_tokens=80,
                    cost=(3_800_000 + each * 2500) * 10**3,
                    duration_ms=1900 + each,
                )
        refuse_request(store, **about, started_at=now - 5 * clock.MINUTE, repeats=12)


@pytest.mark.parametrize("page", PAGES)
def test_each_command_prints_what_the_page_shows(
    page: str, folder_of_each_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of_each_store
    with opened(make_settings(folder)):
        pass
    monkeypatch.setattr("manage_api.cli.asking._is_terminal", lambda: True)
    monkeypatch.setattr("manage_api.cli.table.terminal_width", lambda: WIDTH)
    monkeypatch.setattr("manage_api.cli.commands._user", lambda: "ann")
    for command, output in steps((ROOT / page).read_text()):
        if without_comment(command) in ELSEWHERE:
            continue
        printed = run(without_comment(command))
        if output:  # README shows some commands alone
            assert without_chance(printed) == without_chance(output), command
        if MADE in command:
            make_requests(folder)


def without_comment(command: str) -> str:
    return command.partition("  # ")[0].rstrip()
