"""Runs the tests of code that builds on mitmproxy's private parts against the newest mitmproxy: `./run.sh newest`.

pyproject.toml pins mitmproxy, so this uses a virtual environment of its own, `.venv-newest`. The newest version is the
one that pip finds; pre-releases count.
"""

import os
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
VENV = ROOT / ".venv-newest"
PYTHON = VENV / "bin" / "python"

TESTS = ("tests/addon/patches", "tests/addon/layers", "tests/addon/plain", "tests/addon/serving")

NEWEST = "mitmproxy>=12.2.dev0"
"""A specifier with a pre-release makes pip consider the pre-releases of this package, and of no other."""

_VERSION = "import importlib.metadata; print('mitmproxy', importlib.metadata.version('mitmproxy'))"


def requirements(project: Mapping[str, Any]) -> list[str]:
    """Return the requirements of the tests from the `project` table of pyproject.toml, with mitmproxy unpinned."""
    pinned = [*project["dependencies"], *_extra(project, "test")]
    return [NEWEST if one.startswith("mitmproxy>") else one for one in pinned]


def _extra(project: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield the requirements of an extra, and of the extras that it names."""
    for one in project["optional-dependencies"][name]:
        if one.startswith("llm-proxy["):
            yield from _extra(project, one.removeprefix("llm-proxy[").removesuffix("]"))
        else:
            yield one


def main(options: Sequence[str]) -> int:
    """Install, print the version, and run pytest with these options; return its status."""
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    installed = subprocess.run([*pip, *requirements(project)], check=False)
    if installed.returncode:
        return installed.returncode
    subprocess.run([PYTHON, "-c", _VERSION], check=True)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([PYTHON, "-m", "pytest", *TESTS, *options], cwd=ROOT, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
