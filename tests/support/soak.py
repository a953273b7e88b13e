"""The tests that only `./run.sh soak` runs, and which of them a change touches."""

import ast
import functools
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALWAYS = ("pyproject.toml",)
"""A change of these touches every test."""


def is_for(item: pytest.Item, *, soak: bool) -> bool:
    """Return whether a test belongs to the suite, or to a soak run. Property tests belong to both."""
    return is_property(item) or (item.get_closest_marker("soak") is not None) == soak


def is_property(item: pytest.Item) -> bool:
    return getattr(getattr(item, "obj", None), "is_hypothesis_test", False)


def covers(item: pytest.Item) -> list[str]:
    """Return the paths that a soak test declares to cover; for a property test, the package that it mirrors."""
    if is_property(item):
        return [item.path.parent.relative_to(ROOT / "tests").as_posix()]
    return [path for mark in item.iter_markers("soak") for path in mark.args]


def reason(item: pytest.Item, changed: Iterable[str]) -> str | None:
    """Return the first of the changed paths that touches a test, or None."""
    paths = [*covers(item), *_sources(item.path), *ALWAYS]
    return next((file for file in changed if any(file == path or file.startswith(f"{path}/") for path in paths)), None)


def changed_files(reference: str) -> tuple[str, list[str]]:
    """Return the commit of the comparison, and the files that differ from it in the work tree, new ones included.

    Without a reference: where the branch left `main`; on `main` itself, the last commit but one.
    Raises pytest.UsageError where git does not know it.
    """
    base = _git("rev-parse", "--verify", f"{reference}^{{commit}}") if reference else _default_base()
    listed = (
        *_git("diff", "--name-only", "--no-renames", base).splitlines(),
        *_git("ls-files", "--others", "--exclude-standard").splitlines(),
    )
    return base, sorted(listed)


def _default_base() -> str:
    left = _git("merge-base", "HEAD", "main")
    return left if left != _git("rev-parse", "HEAD") else _git("rev-parse", "HEAD~")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    if done.returncode:
        raise pytest.UsageError(f"--changed: git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


@functools.cache
def _sources(file: Path) -> frozenset[str]:
    """Return a test's file, each conftest.py above it, and the parts of tests/support that they import."""
    conftests = [folder / "conftest.py" for folder in file.parents if folder.is_relative_to(ROOT / "tests")]
    found: set[Path] = set()
    left = [file, *conftests]
    while left:
        one = left.pop()
        if one not in found and one.is_file():
            found.add(one)
            left += _imported(one)
    return frozenset(one.relative_to(ROOT).as_posix() for one in found)


def _imported(file: Path) -> list[Path]:
    modules: list[str] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules += [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
    return [
        ROOT / "tests" / f"{module.replace('.', '/')}.py" for module in modules if module.partition(".")[0] == "support"
    ]
