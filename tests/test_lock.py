"""The locks satisfy pyproject.toml, agree with each other, and name no place where packages come from."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from manage_api.cli.set_up import BUILD, KINDS, lock_of

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]


def declared(*requirements: str) -> list[Requirement]:
    """Return requirements, with those of the extras that they name in their place."""
    found: list[Requirement] = []
    for one in map(Requirement, requirements):
        own = (more for extra in one.extras for more in declared(*EXTRAS[extra]))
        found += own if one.name == "llm-proxy" else [one]
    return found


def locked(name: str) -> dict[str, set[str]]:
    """Return the packages of a lock with their versions: a package may have another one in another Python."""
    found: dict[str, set[str]] = {}
    for line in re.findall(r"^(?![#\s]).+$", (ROOT / lock_of(name)).read_text(), re.MULTILINE):
        one = Requirement(line.removesuffix(" \\"))
        assert str(one.specifier).startswith("=="), line
        found.setdefault(canonicalize_name(one.name), set()).add(str(one.specifier).removeprefix("=="))
    return found


def is_satisfied(requirement: Requirement, found: set[str]) -> bool:
    """Tell whether all locked versions are in its range; or one of them, where it is for some Pythons alone."""
    fits = [*map(requirement.specifier.contains, found)]
    return any(fits) if requirement.marker else bool(fits) and all(fits)


NEEDED = {BUILD.stem: declared(*PYPROJECT["build-system"]["requires"])} | {
    name: declared(*PYPROJECT["project"]["dependencies"], *EXTRAS[kind.extra]) for name, kind in KINDS.items()
}
"""The requirements that each lock has to satisfy."""


@pytest.mark.parametrize("name", NEEDED)
def test_a_lock_has_all_that_is_declared_in_its_range(name: str) -> None:
    versions, needed = locked(name), NEEDED[name]
    assert needed
    wrong = [
        f"{one} is locked at {versions.get(canonicalize_name(one.name))}: ./run.sh lock"
        for one in needed
        if not is_satisfied(one, versions.get(canonicalize_name(one.name), set()))
    ]
    assert wrong == []


@pytest.mark.parametrize("name", KINDS)
def test_locks_that_are_installed_together_agree(name: str) -> None:
    versions = locked(name)
    for contained in KINDS[name].contains:
        assert locked(contained).items() <= versions.items()
    assert [one for one, found in locked(BUILD.stem).items() if versions.get(one, found) != found] == []


@pytest.mark.parametrize("name", NEEDED)
def test_every_package_of_a_lock_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / lock_of(name)).read_text()
    packages = re.split(r"\n(?=[^#\s])", text)[1:]
    assert len(packages) >= len(locked(name))
    assert [one.partition(" ")[0] for one in packages if not re.search(r"--hash=sha256:[0-9a-f]{64}", one)] == []
    assert re.findall(r"://|^ *-+(?:index|extra|find|trusted)", text, re.MULTILINE) == []
