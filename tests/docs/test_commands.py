"""The page of commands agrees with the code, and no page shows a command or an option that does not exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from support.pages import DOCS, PAGES, ROOT, blocks, prose

from manage_api.cli.commands import main

PAGE = (DOCS / "cli.md").read_text()

OF_A_CLONE = {"setup", "test", "soak", "lock", "release", "newest", "screenshots", "bench"}
"""Commands of run.sh alone. Their options are those of other programs."""

CALL = re.compile(r"(?:\./run\.sh|(?:\.venv/bin/|^|(?<=[(;] )|(?<=\())llm-proxy)(?= |$)")


def commands(group: click.Group = main) -> dict[str, click.Command]:
    """Return the commands of a group, those that are imported late too."""
    context = click.Context(group)
    return {name: command for name in group.list_commands(context) if (command := group.get_command(context, name))}


def calls(page: str) -> Iterator[list[str]]:
    """Return the words of each call of `./run.sh` or `llm-proxy` in the code of a page, without those of the shell."""
    texts = [re.sub(r"\\\n *", "", block.text) for block in blocks(page) if block.language in {"sh", "console"}]
    lines = [line for text in texts for line in text.splitlines()]
    spans = [span for span in re.findall(r"`([^`\n]+)`", prose(page)) if span.startswith(("./run.sh", "llm-proxy "))]
    for line in lines + spans:
        for found in CALL.finditer(line):
            rest = re.split(r"[|<>&;)]| #", line[found.end() :].replace("…", ""))[0]
            yield shlex.split(rest) if rest.count('"') % 2 == rest.count("'") % 2 == 0 else rest.split()


def fault(words: list[str]) -> str | None:
    """Return why there is no such call."""
    command: click.Command = main
    for word in words:
        if word.startswith("--"):
            options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
            if word.partition("=")[0] not in options | {"--help", "--version"}:
                return f"{command.name} has no {word}"
        elif isinstance(command, click.Group):
            known = commands(command)
            if word.isupper() or (command.name == "request" and word not in known):
                return None  # it stands for any command, or for an id: `request ID` is `request show ID`
            if word not in known:
                return f"{command.name} has no {word}"
            command = known[word]
    return None


def test_every_command_is_listed() -> None:
    listed = set(re.findall(r"`\./run\.sh ?([\w-]*)(?: \w+)*`", PAGE))
    assert {"", *OF_A_CLONE} | (commands().keys() - {"start"}) <= listed


def test_every_command_of_a_group_is_on_some_page() -> None:
    pages = "\n".join(path.read_text() for path in DOCS.rglob("*.md"))
    for name, group in commands().items():
        if isinstance(group, click.Group):
            for each in commands(group):
                assert re.search(rf"[` ]{name} {each}\b", pages), f"{name} {each}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_and_option_that_a_page_shows_exists(path: Path) -> None:
    shown = [words for words in calls(path.read_text()) if not words or words[0] not in OF_A_CLONE]
    assert [found for words in shown if (found := fault(words))] == []


def test_calls_are_found() -> None:
    page = "```sh\ncat k | ./run.sh project update Search --key  # a comment\n```\nAnd `llm-proxy usage --by day`.\n"
    assert list(calls(page)) == [["project", "update", "Search", "--key"], ["usage", "--by", "day"]]
    assert fault(["project", "update", "Search", "--kee"]) == "update has no --kee"
    assert fault(["projects"]) is not None


def test_the_help_of_run_sh_lists_every_command_in_its_own_words() -> None:
    listed = re.findall(r"^  ([\w-]+) +(.+)$", (ROOT / "run.sh").read_text(), re.MULTILINE)
    own = [(name, "") for name in OF_A_CLONE]
    assert sorted((name, "" if (name, "") in own else text) for name, text in listed) == sorted(
        [*((name, f"{command.get_short_help_str(200)}") for name, command in commands().items()), *own]
    )
