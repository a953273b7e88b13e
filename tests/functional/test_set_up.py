"""Set-ups that are interrupted or fail: `./run.sh` with a real venv and pip, and a small project.

The project's packages are made by a build backend of its own, so that nothing is fetched.
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.gateway.processes import ROOT, Process, clean_environment, wait_until

PYTHON = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")  # not the one in the tests' own .venv
INSTALLING = "\nInstalling collected packages"
PATIENCE = 90.0  # a virtual environment takes seconds, and the other workers of the tests take their share
NO_INDEX = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

NOTHING = "# nothing\n"
SOMETHING = f"hatchling==1.33.0 --hash=sha256:{64 * '0'}\n"

# Makes a package with a program that prints its arguments, and enough files that its installation can be interrupted.
BACKEND = """
import pathlib, zipfile

FILES = {
    "small.py": "import sys\\ndef main(): print('It runs:', *sys.argv[1:])\\n",
    **{f"many/module{number}.py": "" for number in range(400)},
    "llm_proxy-1.dist-info/METADATA": "Metadata-Version: 2.1\\nName: llm-proxy\\nVersion: 1\\n"
    "Provides-Extra: estimates\\nProvides-Extra: test\\nProvides-Extra: soak\\n",
    "llm_proxy-1.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "llm_proxy-1.dist-info/entry_points.txt": "[console_scripts]\\nllm-proxy = small:main\\n",
}

def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(pathlib.Path(folder, "llm_proxy-1-py3-none-any.whl"), "w") as wheel:
        for name, text in FILES.items():
            wheel.writestr(name, text)
        wheel.writestr("llm_proxy-1.dist-info/RECORD", "".join(f"{name},,\\n" for name in FILES))
    return "llm_proxy-1-py3-none-any.whl"
"""

# A Python that has all but the module ensurepip, as Debian's without python3-venv.
WITHOUT_ENSUREPIP = """#!{python}
import runpy, sys
sys.executable = __file__
sys.modules["ensurepip"] = None
if sys.argv[1] == "-c":
    exec(sys.argv[2])
else:
    sys.argv = [argument for argument in sys.argv[1:] if argument != "-I"]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""

# Commands as pyenv puts them onto the PATH: the chosen version is missing, PYENV_VERSION selects others.
PLAIN = """#!/bin/sh
exec {python} "$@"
"""

PYENV = """#!/bin/sh
[ "$PYENV_VERSION" = 3.12 ] && exec {python} "$@"
echo "pyenv: version 3.11 is not installed" >&2
exit 1
"""


class Checkout:
    """A folder with run.sh and the small project."""

    def __init__(self, folder: Path, python: str = PLAIN) -> None:
        self.folder = folder / "checkout"
        (self.folder / "manage_api" / "cli").mkdir(parents=True)
        for name in ("run.sh", "manage_api/cli/set_up.py"):
            shutil.copy(ROOT / name, self.folder / name)
        (self.folder / "pyproject.toml").write_text(PYPROJECT)
        self.lock = self.folder / "requirements" / "run.txt"
        self.lock.parent.mkdir()
        for lock in (self.lock, self.lock.with_name("build.txt")):
            lock.write_text(NOTHING)
        (self.folder / "backend.py").write_text(BACKEND)
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("bash", "cat", "cmp", "dirname", "env", "readlink", "sh"):
            (self.bin / name).symlink_to(str(shutil.which(name)))
        self.add_python("python3", python)
        self.env = {**clean_environment(), "HOME": str(folder), "PATH": str(self.bin), **NO_INDEX}
        self._log = folder / "run.log"

    @property
    def venv(self) -> Path:
        return self.folder / ".venv"

    @property
    def pip_log(self) -> str:
        file = self.venv / "set-up.log"
        return file.read_text() if file.exists() else ""

    def add_python(self, name: str, script: str) -> None:
        (self.bin / name).write_text(script.format(python=PYTHON))
        (self.bin / name).chmod(0o755)

    def start(self, *arguments: str) -> Process:
        self._log.unlink(missing_ok=True)
        return Process([str(self.folder / "run.sh"), *arguments], env=self.env, log=self._log, cwd=self.folder)

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        return process.wait(PATIENCE), process.output()

    def kill_when(self, condition: Callable[[], bool], *arguments: str) -> str:
        """Start, kill all of it at a moment of the set-up, and return the output until then."""
        process = self.start(*arguments)
        wait_until(lambda: condition() or not process.is_running())
        assert process.is_running(), process.output()
        process.kill()
        return process.output()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.soak("manage_api/cli/set_up.py", "run.sh")  # in the suite: the first start of .ci/run, and those below
def test_a_set_up_recovers_from_any_interruption(checkout: Checkout, tmp_path: Path) -> None:
    """One test, as each set-up takes seconds: it goes on from one accident to the next."""
    works = f"It runs: --caller {checkout.folder} usage\n"

    # It is killed while there is no Python in .venv, and while that has half a pip.
    checkout.kill_when(checkout.venv.joinpath("pyvenv.cfg").exists, "usage")
    again = checkout.kill_when(lambda: any(checkout.venv.glob("lib/*/site-packages/pip")), "usage")
    assert "Setting up LLM Proxy in .venv again, as its last set-up did not end" in again

    # Two at once are one.
    both = [
        Process(["./run.sh", "usage"], env=checkout.env, log=tmp_path / f"{number}.log", cwd=checkout.folder)
        for number in range(2)
    ]
    assert [process.wait(PATIENCE) for process in both] == [0, 0]
    outputs = sorted(process.output() for process in both)
    assert "Setting up LLM Proxy in .venv again, " in outputs[0]
    assert outputs[0].endswith(f" s.\n{works}")
    assert outputs[1] == f"Waiting for another set-up of LLM Proxy in this folder ...\n{works}"

    # A finished set-up needs no other Python.
    python = (checkout.bin / "python3").rename(tmp_path / "python3")
    assert checkout.run("usage") == (0, works)
    python.rename(checkout.bin / "python3")

    # An update without a network changes nothing: the version before still runs.
    checkout.lock.write_text(SOMETHING)
    status, output = checkout.run("usage")
    assert status == 1
    assert output.splitlines()[-1] == (
        "LLM Proxy is not set up. 127.0.0.1:9 cannot be reached (Connection refused). "
        "The next ./run.sh tries again; pip's own words are in .venv/set-up.log."
    )
    assert "No matching distribution found for hatchling==1.33.0" in checkout.pip_log
    checkout.lock.write_text(NOTHING)
    assert checkout.run("usage") == (0, works)

    # Any other failure shows pip's last words.
    (checkout.folder / "pyproject.toml").write_text(f"{PYPROJECT}# new")
    (checkout.folder / "backend.py").write_text("raise RuntimeError('a fault of the build')")
    status, output = checkout.run("usage")
    assert status == 1
    assert "LLM Proxy is not set up. All of it is in .venv/set-up.log, which ends with:" in output
    assert "RuntimeError: a fault of the build" in output
    (checkout.folder / "backend.py").write_text(BACKEND)

    # A checkout that was moved needs another .venv: its scripts name the folder.
    there = checkout.folder.rename(tmp_path / "moved here")
    moved = Checkout(tmp_path / "moved", WITHOUT_ENSUREPIP)
    moved.folder = there
    status, output = moved.run("usage")
    assert (status, f"again, as it was made in {checkout.folder}: " in output) == (1, True)
    there.rename(checkout.folder)

    # It is killed while pip replaces packages. A half package may look whole to pip, so all packages are removed first.
    checkout.kill_when(lambda: (checkout.venv / "unfinished").exists() and INSTALLING in checkout.pip_log, "usage")
    (folder,) = checkout.venv.glob("lib/*/site-packages")
    rest = folder / "half_there.py"
    rest.touch()
    again = checkout.kill_when(lambda: not rest.exists(), "usage")
    assert "again, as its last set-up did not end" in again


def test_a_python_without_ensurepip_is_named_with_the_package_to_install(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, WITHOUT_ENSUREPIP)
    status, output = checkout.run()
    version = f"3.{sys.version_info.minor}"
    assert status == 1
    assert output.splitlines()[-1] == (
        f"LLM Proxy is not set up. Python {version} is here without its module ensurepip. "
        f"On Debian and Ubuntu: apt install python{version}-venv. Then run it again."
    )


def test_another_python_is_used_where_the_first_cannot_make_a_venv(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, WITHOUT_ENSUREPIP)
    checkout.add_python("python3.12", PYENV)
    checkout.kill_when((checkout.venv / "bin").exists)


def test_a_missing_python_is_reported(tmp_path: Path) -> None:
    assert Checkout(tmp_path, PYENV).run() == (1, "LLM Proxy needs Python 3.12 or newer; none was found on the PATH.\n")


@pytest.mark.parametrize(
    "arguments", ["--help", "-h", "setup --help", "setup -h", "test --help", "soak -h", "bench --help", "usage --help"]
)
def test_help_installs_nothing(checkout: Checkout, arguments: str) -> None:
    status, output = checkout.run(*arguments.split())
    assert (status, output.startswith("Usage: ./run.sh [COMMAND]")) == (0, True)
    assert not checkout.venv.exists()


def test_setup_rejects_arguments(checkout: Checkout) -> None:
    assert checkout.run("setup", "now") == (2, "./run.sh setup takes no arguments.\n")
    assert not checkout.venv.exists()
