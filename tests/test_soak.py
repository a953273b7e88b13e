"""Checks of the suite that keep the soak tests in step with the program."""

import ast
import functools
from collections.abc import Iterator

import pytest
from support.attacks.protections import WITHOUT
from support.soak import ROOT, changed_files, reason

TESTS = ROOT / "tests"
MARK = "pytest.mark.soak"


@functools.cache
def marks() -> dict[str, list[list[str]]]:
    """Return the paths in each `pytest.mark.soak(...)`, by file. Raises ValueError where one is no literal."""
    return {
        file.relative_to(ROOT).as_posix(): [*paths_of_marks(file.read_text())] for file in sorted(TESTS.rglob("*.py"))
    }


def paths_of_marks(text: str) -> Iterator[list[str]]:
    nodes = [*ast.walk(ast.parse(text))] if MARK in text else []
    arguments = {node.func: node.args for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr == "soak" and ast.unparse(node) == MARK:
            yield [ast.literal_eval(argument) for argument in arguments.get(node, [])]


def test_every_soak_module_declares_the_paths_that_it_covers() -> None:
    modules = [file.relative_to(ROOT).as_posix() for file in (TESTS / "soak").glob("test_*.py")]
    assert modules
    assert [module for module in modules if not marks()[module]] == []


def test_every_soak_mark_names_paths() -> None:
    assert [file for file, paths in marks().items() if [] in paths] == []


def test_every_covered_path_exists() -> None:
    declared = {(file, path) for file, found in marks().items() for paths in found for path in paths}
    assert {(file, path) for file, path in declared if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("protection", WITHOUT)
def test_each_protection_that_the_canary_soak_removes_still_stands_in_the_sources(protection: str) -> None:
    _, changes = WITHOUT[protection]
    assert [(name, old) for name, old, _ in changes if old not in (ROOT / name).read_text()] == []


def of_this_file(request: pytest.FixtureRequest) -> pytest.Item:
    item = request.node
    assert isinstance(item, pytest.Item)
    return item


@pytest.mark.parametrize(
    ("changed", "touched"),
    [
        ("tests/test_soak.py", True),
        ("tests/conftest.py", True),
        ("tests/support/soak.py", True),
        ("tests/support/attacks/canary.py", True),  # by way of protections.py
        ("pyproject.toml", True),
        ("tests/support/load/load.py", False),
        ("store/clock.py", False),
        ("tests/test_soak.py.orig", False),
    ],
)
def test_a_change_touches_the_tests_that_import_it(request: pytest.FixtureRequest, changed: str, touched: bool) -> None:
    assert reason(of_this_file(request), ["README.md", changed]) == (changed if touched else None)


@pytest.mark.parametrize(
    ("changed", "touched"),
    [("store/admission/writer.py", True), ("addon/proxy.py", True), ("addon/proxy.pyi", False), ("store", False)],
)
def test_a_change_touches_the_tests_that_cover_its_path(
    request: pytest.FixtureRequest, changed: str, touched: bool
) -> None:
    item = of_this_file(request)
    item.add_marker(pytest.mark.soak("store/admission", "addon/proxy.py"))
    assert reason(item, [changed]) == (changed if touched else None)


def test_an_unknown_reference_is_a_usage_error() -> None:
    with pytest.raises(pytest.UsageError, match=r"--changed: git rev-parse .*no-such-commit"):
        changed_files("no-such-commit")
