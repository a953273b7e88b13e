"""The pages for people: README, CONTRIBUTING, CHANGELOG and docs/, with what tests read in them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
INDEX = DOCS / "index.md"
PAGES = (*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *sorted(DOCS.rglob("*.md")))

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)

VARYING = re.compile(
    r"(?P<id>[0-9a-f]{8}-[0-9a-f-]{27})"
    r"|(?P<cut>[0-9a-f]{8}-[0-9a-f-]*…)"
    r"|(?P<admin>llmp_admin_[0-9a-f]{48})"
    r"|(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{6})?)?)"
)
"""Ids, values and times: they differ each time that a command is run."""


class Block(NamedTuple):
    """A block of code of a page."""

    language: str
    text: str


class Step(NamedTuple):
    """A command of a session, and what the page shows as its output."""

    command: str
    output: str


def blocks(page: str) -> Iterator[Block]:
    """Return the blocks of code, without the indentation of those within lists."""
    for found in _FENCE.finditer(page):
        yield Block(found["language"], re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE))


def steps(page: str) -> Iterator[Step]:
    """Return the commands of all sessions (`console`), in their order."""
    for block in blocks(page):
        if block.language == "console":
            for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                command, output = re.fullmatch(r"((?:.*\\\n)*.*\n?)((?:.*\n)*)", part).groups()  # type: ignore[union-attr]
                yield Step(re.sub(r"\\\n *", "", command).strip(), output)


def without_chance(text: str) -> str:
    """Return an output with ids, values and times as long as they were."""
    return VARYING.sub(lambda found: f"<{found.lastgroup}>".ljust(len(found.group()), "."), text)


def prose(page: str) -> str:
    """Return a page without its blocks of code."""
    return _FENCE.sub("", page)


def links(page: str) -> list[str]:
    """Return the relative links of a page, images among them."""
    return _LINK.findall(prose(page))


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in _HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found
