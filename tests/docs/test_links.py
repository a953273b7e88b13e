"""Every link between the pages leads somewhere, and every page is found from the map."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.pages import DOCS, INDEX, PAGES, ROOT, anchors, links


def targets(path: Path) -> Iterator[tuple[str, Path, str]]:
    """Return each relative link of a page, with its file and its anchor."""
    for link in links(path.read_text()):
        name, _, anchor = link.partition("#")
        yield link, (path.parent / name).resolve() if name else path, anchor


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_and_anchor_leads_somewhere(path: Path) -> None:
    dead = [
        link
        for link, target, anchor in targets(path)
        if not target.exists() or (anchor and anchor not in anchors(target.read_text()))
    ]
    assert dead == []


def test_every_page_is_found_from_the_map() -> None:
    found, left = set[Path](), [INDEX]
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            left += [target for _, target, _ in targets(path) if target.suffix == ".md" and target.exists()]
    assert set(PAGES) - found == set()
    assert DOCS / "for-developers.md" in found


def test_the_map_names_each_page_of_its_folder_itself() -> None:
    named = {target for _, target, _ in targets(INDEX)}
    assert {path for path in DOCS.rglob("*.md") if path != INDEX} <= named


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("# One\n## `two`, or three?\n## [Four](x.md) five\n", {"one", "two-or-three", "four-five"}),
        ("## What's _new_ in 0.2.0\n", {"whats-_new_-in-020"}),
        ("## Same\n## Same\n```sh\n# no heading\n```\n", {"same", "same-1"}),
    ],
)
def test_anchors_are_made_as_github_makes_them(page: str, expected: set[str]) -> None:
    assert anchors(page) == expected
