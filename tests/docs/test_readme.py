"""The README is short, and its first screen is what the demo prints."""

import re

from support.pages import ROOT

from manage_api.cli.set_up import KINDS
from manage_api.demo.command import introduction
from store.runtime.settings import Settings
from store.version import __version__

README = (ROOT / "README.md").read_text()


def test_the_first_screen_is_what_the_demo_prints() -> None:
    screen = README.split("```")[1]
    (token,) = set(re.findall(r"[0-9a-f-]{36}", screen))
    (management_token,) = re.findall(r"/manage/tokens/.* Bearer (\w+)", screen)
    assert introduction(Settings.model_construct(), management_token, token) in screen
    assert KINDS["run"].size in screen


def test_it_can_be_read_in_some_minutes() -> None:
    assert len(README.splitlines()) <= 130


def test_the_changelog_begins_with_this_version_or_with_what_is_unreleased() -> None:
    first = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert first in {__version__, "Unreleased"}
