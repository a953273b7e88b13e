"""The sessions of docs/command-line.md print what stands there, but for ids, values and times."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.stores.ledger import refuse_request, settle_request
from support.stores.stores import API_KEY, make_settings, opened

from manage_api.cli.commands import main
from store import clock
from store.ledger.usage import Source
from store.management.tokens import Tokens

PAGE = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text()

WIDTH = 118
"""Columns of the terminal of the sessions."""

VARYING = re.compile(
    r"(?P<id>[0-9a-f]{8}-[0-9a-f-]{27})"
    r"|(?P<cut>[0-9a-f]{8}-[0-9a-f-]*…)"
    r"|(?P<admin>llmp_admin_[0-9a-f]{48})"
    r"|(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{6})?)?)"
)

MADE = ' token create "Ann\'s laptop"'
"""The command after which there are requests."""


def sessions(page: str = PAGE) -> Iterator[tuple[str, str]]:
    """Return each command and its output."""
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def without_chance(text: str) -> str:
    """Return an output with ids and times as long as they were."""
    return VARYING.sub(lambda found: f"<{found.lastgroup}>".ljust(len(found.group()), "."), text)


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


def test_each_command_prints_what_the_page_shows(folder_of_each_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of_each_store
    with opened(make_settings(folder)):
        pass
    monkeypatch.setattr("manage_api.cli.asking._is_terminal", lambda: True)
    monkeypatch.setattr("manage_api.cli.table.terminal_width", lambda: WIDTH)
    monkeypatch.setattr("manage_api.cli.commands._user", lambda: "ann")
    for command, output in sessions():
        assert without_chance(run(command)) == without_chance(output), command
        if MADE in command:
            make_requests(folder)
