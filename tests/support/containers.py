"""Machines for the tests of an installation: containers of podman, whose images are made from Debian's packages.

They have no network: what the lock names was fetched before, and is at /wheels.
"""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.gateway.processes import ROOT, Process

TOOLS = ("mmdebstrap", "buildah", "podman", "runc")
"""Debian's packages that this needs, and root. runc: crun does not start where control groups are of two versions."""

SUITE, PYTHON = "trixie", "3.13"
"""The release of Debian, and its Python."""

NO_NETWORK = "--network=none"
_LIMITS = ("--ulimit=nofile=10000:10000", "--ulimit=nproc=4000:4000")
"""podman sets them to the highest, which is refused where this user may not raise them."""


def is_possible() -> bool:
    """Tell whether the tools are there."""
    return all(map(shutil.which, TOOLS))


def run(*command: str | Path, given: bytes = b"") -> str:
    """Run a command and return its output; fails with what it said."""
    done = subprocess.run(command, input=given, cwd=ROOT, capture_output=True, check=False)
    output = done.stdout.decode()
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{output}{done.stderr.decode()}"
    return output


def make_image(name: str, folder: Path, *packages: str) -> None:
    """Make an image with these packages of Debian, and what every Debian has."""
    archive = folder / "image.tar"
    run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}", SUITE, archive)
    run("podman", "import", "--quiet", archive, name)
    archive.unlink()


def remove_image(name: str) -> None:
    run("podman", "rmi", "--force", name)


def fetch_wheels(folder: Path) -> None:
    """Fetch the packages of the lock into a folder, with a configuration that has pip take them alone."""
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes")
    locks = ("--requirement=requirements/run.txt", "--requirement=requirements/build.txt")
    run(*pip, *locks, f"--python-version={PYTHON}", "--only-binary=:all:", f"--dest={folder}")
    (folder / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")


def with_wheels(folder: Path) -> list[str]:
    """Return the options that show the folder to a container, or to a build."""
    return [f"--volume={folder}:/wheels:ro", f"--volume={folder / 'pip.conf'}:/etc/pip.conf:ro"]


def build_wheel(folder: Path) -> Path:
    """Build the project's wheel, and return its path."""
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    run(*pip, f"--wheel-dir={folder}", ROOT)
    (wheel,) = folder.glob("llm_proxy-*.whl")
    return wheel


class Container:
    """A container that runs."""

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self.process = process

    def command(self, *command: str) -> list[str]:
        """Return the command that runs another one in it."""
        return ["podman", "exec", "--interactive", self.name, *command]

    def execute(self, *command: str, given: bytes = b"") -> str:
        """Run a command in it, and return its output."""
        return run(*self.command(*command), given=given)

    def copy(self, target: str, *names: str) -> None:
        """Copy the project's files into a folder of it: all that git knows of these folders and files."""
        files = run("git", "ls-files", "-z", *names).strip("\0").split("\0")
        packed = subprocess.run(["tar", "--create", *files], cwd=ROOT, capture_output=True, check=True)  # noqa: S607
        self.execute("mkdir", "--parents", target)
        self.execute("tar", "--extract", "--no-same-owner", f"--directory={target}", given=packed.stdout)


@contextlib.contextmanager
def running(
    image: str, folder: Path, command: Sequence[str], *options: str, until: str | None = None
) -> Iterator[Container]:
    """Run a container until the block's end; it is there once `until` is in its output."""
    name = f"llm-proxy-test-{folder.name}"
    log = folder / f"{name}.log"
    log.unlink(missing_ok=True)
    podman = ["podman", "--runtime=runc", "run", "--rm", f"--name={name}", "--no-healthcheck", NO_NETWORK, *_LIMITS]
    process = Process([*podman, *options, image, *command], env={"PATH": "/usr/bin:/usr/sbin:/bin:/sbin"}, log=log)
    try:
        if until:
            process.wait_for_output(until)
        yield Container(name, process)
    finally:
        run("podman", "rm", "--force", "--ignore", name)
        if process.is_running():
            process.wait_stopped()
