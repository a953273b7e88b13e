"""The container image, built and run by podman, without a registry: its base is made from Debian's packages."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.gateway.processes import ROOT, Process

TOOLS = ("mmdebstrap", "buildah", "podman", "runc")
"""Debian's packages that this needs, and root. runc: crun does not start where control groups are of two versions."""

BASE = "localhost/llm-proxy-test-base"
IMAGE = "localhost/llm-proxy-test"
_PACKAGES = "python3,python3-venv,binutils"
_PYTHON = "3.13"  # of trixie

_LIMITS = ("--ulimit", "nofile=10000:10000", "--ulimit", "nproc=4000:4000")
"""podman sets them to the highest, which is refused where this user may not raise them."""

LOCKED_UP = ("--network=none", "--read-only", "--read-only-tmpfs=false", "--cap-drop=all")
"""Options for a container without a network, and without a place to write to but its volume."""


def is_possible() -> bool:
    """Tell whether the tools are there."""
    return all(map(shutil.which, TOOLS))


def run(*command: str | Path, given: str = "") -> str:
    """Run a command and return its output; fails with what it said."""
    done = subprocess.run(command, input=given, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def make_base(folder: Path) -> None:
    """Make the image that the Dockerfile begins with."""
    archive = folder / "base.tar"
    run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={_PACKAGES}", "trixie", archive)
    run("podman", "import", "--quiet", archive, BASE)


def download(folder: Path) -> None:
    """Fetch the packages of the lock for the base's Python, so that no build needs a network."""
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes")
    locks = ("--requirement", "requirements/run.txt", "--requirement", "requirements/build.txt")
    run(*pip, *locks, "--python-version", _PYTHON, "--only-binary", ":all:", "--dest", folder)


def build(wheels: Path) -> list[str | Path]:
    """Return the command that builds the image with what was fetched."""
    (wheels / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    volumes = ("--volume", f"{wheels}:/wheels:ro", "--volume", f"{wheels / 'pip.conf'}:/etc/pip.conf:ro")
    return [
        "buildah",
        "build",
        "--isolation=chroot",
        "--format=docker",
        f"--build-arg=BASE={BASE}",
        *volumes,
        "--tag",
        IMAGE,
        ".",
    ]


def inspect(name: str) -> dict[str, Any]:
    """Return what podman knows of an image."""
    (found,) = json.loads(run("podman", "image", "inspect", name))
    return dict(found)


class Container:
    """A container that runs."""

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self.process = process

    def execute(self, *command: str, given: str = "") -> str:
        """Run a command in it, and return its output."""
        return run("podman", "exec", "--interactive", self.name, *command, given=given)


@contextmanager
def running(folder: Path, command: Sequence[str], *options: str, until: str) -> Iterator[Container]:
    """Run a container until the block's end; it is there once `until` is in its output."""
    name = f"llm-proxy-test-{folder.name}"
    podman = ["podman", "--runtime=runc", "run", "--rm", f"--name={name}", "--no-healthcheck", *_LIMITS]
    process = Process(
        [*podman, *options, IMAGE, *command], env={"PATH": "/usr/bin:/usr/sbin:/bin:/sbin"}, log=folder / f"{name}.log"
    )
    try:
        process.wait_for_output(until)
        yield Container(name, process)
    finally:
        run("podman", "rm", "--force", "--ignore", name)
        if process.is_running():
            process.wait_stopped()
