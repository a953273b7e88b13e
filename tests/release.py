"""Makes a release in `dist/`: `./run.sh release`.

A wheel, and the sources that it is built from. The wheel is installed, by the lock, where nothing else is; there its
commands and its demo must work. Beside them are written what is in it (an SBOM in CycloneDX's format), the licences of
that, and the checksums of all files. `dist/` changes only once all of it is done.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # run.sh starts this file

from support.gateway.processes import Process, clean_environment, free_port  # noqa: E402 - the path comes first
from support.gateway.smoke import count_a_request  # noqa: E402

from manage_api.cli.commands import MODULES  # noqa: E402
from manage_api.cli.set_up import lock_of  # noqa: E402
from store.version import __version__  # noqa: E402

DIST = ROOT / "dist"
SUMS = "SHA256SUMS"


class ReleaseError(Exception):
    """The release is not to be published; the text says why."""


class Wheel:
    """A wheel, installed where nothing else is: `folder` gets the environment and an empty working directory."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "env" / "bin" / "python"
        self._command = folder / "env" / "bin" / "llm-proxy"
        self._empty = folder / "empty"
        self._log = folder / "demo.log"
        self._env = {name: value for name, value in clean_environment().items() if name != "PYTHONPATH"} | {
            "HOME": str(folder)
        }

    def install(self, wheel: Path) -> None:
        """Install it with the packages of the lock; no other version of any comes along."""
        self._empty.mkdir()
        run(sys.executable, "-m", "venv", "--without-pip", self.python.parents[1])
        pip = (sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check", "--quiet")
        run(*pip, "install", "--require-hashes", "--requirement", ROOT / lock_of("run"))
        run(*pip, "install", "--no-index", "--no-deps", wheel)
        run(*pip, "check")

    def check(self) -> None:
        """Raise ReleaseError where a command is missing, or its demo does not count a request."""
        told = self._run("--version")
        if f"LLM Proxy {__version__}\n" not in told:
            raise ReleaseError(f"The wheel tells another version than {__version__}: {told}")
        for name in MODULES:
            self._run(name, "--help")
        script = Path(self._run("addon-path").strip())
        if not script.is_relative_to(self.python.parents[1]) or not script.exists():
            raise ReleaseError(f"There is no script for mitmproxy at {script}.")
        self._check_demo()

    def _run(self, *arguments: str) -> str:
        return run(self._command, *arguments, cwd=self._empty, env=self._env)

    def _check_demo(self) -> None:
        ports = {name: f"127.0.0.1:{free_port()}" for name in ("PROXY_LISTEN", "MANAGE_LISTEN", "WEB_LISTEN")}
        process = Process([str(self._command), "demo"], env=self._env | ports, log=self._log, cwd=self._empty)
        try:
            answer, count = count_a_request(process.wait_for_output("/manage/tokens/"))
        except AssertionError as error:
            raise ReleaseError(f"The demo does not start: {error}") from None
        finally:
            status = process.stop()
        if "Hello!" not in answer or count != 1 or status:
            raise ReleaseError(f"The demo answered {answer!r}, counted {count}, and ended with {status}.")


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """Run a command and return its output. Raises ReleaseError with that where it fails."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def build(folder: Path) -> Path:
    """Build the sources and, from them, the wheel; return its path."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def describe(python: Path, folder: Path) -> None:
    """Write what an environment has, as an SBOM, and its licences."""
    sbom = folder / f"llm_proxy-{__version__}.cdx.json"
    cyclonedx = (sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject", ROOT / "pyproject.toml")
    run(*cyclonedx, "--output-reproducible", "--output-file", sbom, python)
    licences = folder / f"llm_proxy-{__version__}.licences.md"
    beside = Path(sys.executable).with_name("pip-licenses")
    run(beside, "--python", python, "--format", "markdown", "--order", "license", "--output-file", licences)


def sums(folder: Path) -> str:
    """Return the checksums of a folder's files, as `sha256sum --check` reads them."""
    files = sorted(path for path in folder.iterdir() if path.name != SUMS)
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)


def release(target: Path) -> None:
    """Make all files of a release in a folder, in place of those that it has. Raises ReleaseError."""
    with tempfile.TemporaryDirectory(prefix="llm-proxy-release-") as name:
        folder, files = Path(name), Path(name, "dist")
        wheel = Wheel(folder)
        wheel.install(build(files))
        wheel.check()
        describe(wheel.python, files)
        (files / SUMS).write_text(sums(files))
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(files, target)


def main(arguments: Sequence[str]) -> int:
    """Make a release; return the exit status."""
    if arguments:
        print("./run.sh release takes no arguments.", file=sys.stderr)
        return 2
    began = time.monotonic()
    try:
        release(DIST)
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1
    for path in sorted(DIST.iterdir()):
        print(f"{path.stat().st_size:10,}  {path.relative_to(ROOT)}")
    print(f"Built and checked in {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
