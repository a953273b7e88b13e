"""The README agrees with the code: its table of settings, its list of commands, its first screen."""

import re
from pathlib import Path

import click

from manage_api.cli.commands import main
from manage_api.cli.set_up import KINDS
from manage_api.demo.command import introduction
from store.runtime.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def settings_table() -> str:
    """Write the table as it must stand in the README."""
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = f"`{field.default}`" if field.default not in {None, ""} else ""
        rows.append(f"| `{name.upper()}` | {default} | {field.description} |".replace("|  |", "| |"))
    return "\n".join(rows)


def commands() -> dict[str, click.Command]:
    """Return the commands of `llm-proxy`, those that are imported late too."""
    context = click.Context(main)
    return {name: command for name in main.list_commands(context) if (command := main.get_command(context, name))}


def test_the_table_has_every_setting_with_its_default_and_help() -> None:
    assert settings_table() in README


def test_every_command_is_listed() -> None:
    listed = set(re.findall(r"`\./run\.sh ?(\w*)(?: \w+)*`", README))
    assert {"", "setup", "test", "soak", "newest", "screenshots", "bench"} | (commands().keys() - {"start"}) <= listed


def test_the_help_of_run_sh_lists_every_command_in_its_own_words() -> None:
    listed = re.findall(r"^  (\w+) +(.+)$", (ROOT / "run.sh").read_text(), re.MULTILINE)
    own = [("setup", ""), ("test", ""), ("soak", ""), ("newest", ""), ("screenshots", ""), ("bench", "")]
    assert sorted((name, "" if (name, "") in own else text) for name, text in listed) == sorted(
        [*((name, f"{command.get_short_help_str(200)}") for name, command in commands().items()), *own]
    )


def test_the_first_screen_is_what_the_demo_prints() -> None:
    screen = README.split("```")[1]
    (token,) = set(re.findall(r"[0-9a-f-]{36}", screen))
    (management_token,) = re.findall(r"/manage/tokens/.* Bearer (\w+)", screen)
    assert introduction(Settings.model_construct(), management_token, token) in screen
    assert KINDS["run"].size in screen


def test_every_link_into_the_project_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_version_is_in_the_changelog_or_unreleased() -> None:
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()
