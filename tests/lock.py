"""Makes the locks in `requirements/`: `./run.sh lock`. Its options are those of uv, such as `--upgrade`.

A lock pins each package of a set for all systems and versions of Python at once, with the hashes of its files. What
builds the project has a lock of its own: the set-up installs the project with that, without a network. Versions change
only where pyproject.toml asks for it, or an option does.
"""

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # run.sh starts this file

from manage_api.cli.set_up import BUILD, KINDS, lock_of  # noqa: E402 - the path comes first

EDITABLE = ("editables",)
"""Packages that hatchling asks for besides when it installs the project in its own folder."""


def command(name: str, options: Sequence[str]) -> list[str]:
    """Return the command that makes one lock, in which the versions of the locks beside it hold too."""
    extra = [] if name == BUILD.stem else ["pyproject.toml", "--extra", KINDS[name].extra]
    beside = [] if name == BUILD.stem else [BUILD.stem, *(one for one in KINDS[name].contains if one != name)]
    return [
        *(str(Path(sys.executable).with_name("uv")), "pip", "compile", *(extra or ["-"])),
        *("--universal", "--python-version", "3.12", "--generate-hashes", "--no-emit-index-url", "--no-annotate"),
        *("--custom-compile-command", "./run.sh lock", "--quiet", "--output-file", str(lock_of(name))),
        *(word for one in beside for word in ("--constraint", str(lock_of(one)))),
        *options,
    ]


def main(options: Sequence[str]) -> int:
    """Make all locks; return the status of the first one that cannot be made, or 0."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    BUILD.parent.mkdir(exist_ok=True)
    for name in (BUILD.stem, *KINDS):
        given = "\n".join((*build, *EDITABLE))
        done = subprocess.run(command(name, options), cwd=ROOT, input=given, text=True, check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
