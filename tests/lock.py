"""Makes the locks in `requirements/`: `./run.sh lock`. Its options are those of uv, such as `--upgrade`.

A lock pins each package of a set for all systems and versions of Python at once, with the hashes of its files. What
builds the project is in it too: the set-up installs the project without a network. Versions change only where
pyproject.toml asks for it, or an option does.
"""

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # run.sh starts this file

from manage_api.cli.set_up import KINDS, lock_of  # noqa: E402 - the path comes first

EDITABLE = ("editables",)
"""What hatchling asks for besides when it installs the project in its own folder."""


def command(name: str, options: Sequence[str]) -> list[str]:
    """Return the command that makes one lock. The versions of the set that it contains are its own."""
    contained = [one for one in KINDS[name].contains if one != name]
    return [
        *(str(Path(sys.executable).with_name("uv")), "pip", "compile", "pyproject.toml", "-"),
        *("--extra", KINDS[name].extra, "--output-file", str(lock_of(name))),
        *("--universal", "--python-version", "3.12", "--generate-hashes", "--no-emit-index-url", "--no-annotate"),
        *("--custom-compile-command", "./run.sh lock", "--quiet"),
        *(word for one in contained for word in ("--constraint", str(lock_of(one)))),
        *options,
    ]


def main(options: Sequence[str]) -> int:
    """Make all locks; return the status of the first one that cannot be made, or 0."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    lock_of("").parent.mkdir(exist_ok=True)
    for name in KINDS:
        given = "\n".join((*build, *EDITABLE))
        done = subprocess.run(command(name, options), cwd=ROOT, input=given, text=True, check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
