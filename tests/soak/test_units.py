"""The systemd units of docs/deploy: systemd accepts them, and their commands work, hardened as far as possible without
systemd: with their settings, user mask and folder, and without memory that can be changed into code."""

import re
import shlex
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.gateway.gateway import MANAGEMENT_TOKEN
from support.gateway.processes import Process, clean_environment, free_port, python, running, tool
from support.network.http_engine import DEPLOY, require

from store.encryption.crypto import new_key

pytestmark = pytest.mark.soak("addon/serving", "docs/deploy", "manage_api/cli")

UNITS = ("llm-proxy@.service", "llm-proxy-manage@.service")

# PR_SET_MDWE of prctl(2): the effect of MemoryDenyWriteExecute, on kernels that have it.
_HARDENED = (
    "import ctypes, os, sys; os.umask(0o077); ctypes.CDLL(None).prctl(65, 1, 0, 0, 0);"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def settings_of(unit: str, instance: str, state: Path) -> dict[str, str]:
    """Read the last value of each setting, with the specifiers that the units use."""
    pairs = re.findall(r"^(\w+)=(.*)$", (DEPLOY / unit).read_text(), re.MULTILINE)
    return {name: value.replace("%i", instance).replace("%S", str(state)) for name, value in pairs}


def command_of(settings: dict[str, str]) -> list[str]:
    """Return the command of a unit, as it is installed here."""
    program, *arguments = shlex.split(settings["ExecStart"])
    assert Path(program).parent == Path("/opt/llm-proxy/.venv/bin")
    return [tool(Path(program).name), *arguments]


def environment(folder: Path) -> dict[str, str]:
    """Read the example with a shell, filled in."""
    file = folder / "environment"
    file.write_text((DEPLOY / "environment.example").read_text())
    shown = subprocess.run(
        ["/bin/sh", "-c", f"set -a; . {file}; env -0"], env={}, capture_output=True, text=True, check=True
    )
    example = dict(line.split("=", 1) for line in shown.stdout.split("\0") if line and not line.startswith("PWD="))
    assert example["DATABASE_URL"].startswith("postgresql://")
    return {
        **example,
        "DATABASE_URL": f"sqlite:///{folder}/store.db",
        "ENCRYPTION_KEY": new_key(),
        "MANAGEMENT_TOKEN": MANAGEMENT_TOKEN,
        "UPSTREAM_URL": "http://127.0.0.1:9",
    }


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest) -> str:
    unit: str = request.param
    return unit


@pytest.fixture
def started(unit: str, tmp_path: Path) -> Iterator[tuple[Process, dict[str, str]]]:
    state = tmp_path / "state"
    (state / "llm-proxy").mkdir(parents=True, mode=0o700)
    settings = settings_of(unit, f"127.0.0.1:{free_port()}", state)
    own = dict(word.split("=", 1) for word in settings["Environment"].split())
    process = Process(
        [*python("-c", _HARDENED), *command_of(settings)],
        env={**clean_environment(), **own, **environment(tmp_path)},
        log=tmp_path / "unit.log",
        cwd=Path(settings["WorkingDirectory"]),
    )
    with running(process):
        yield process, settings


def test_the_command_of_a_unit_works_and_stops(started: tuple[Process, dict[str, str]]) -> None:
    process, settings = started
    waited = subprocess.run(settings["ExecStartPost"].split(), env=clean_environment(), check=False, timeout=60)
    assert waited.returncode == 0, process.output()
    listen = next(word for word in settings["Environment"].split() if "_LISTEN=" in word).partition("=")[2]
    assert httpx.get(f"http://{listen}/health").status_code == 200
    folder = Path(settings["WorkingDirectory"])
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in folder.rglob("*")} <= {0}
    assert not [path for path in folder.rglob("*") if path.name in {"encryption_key", "management_token"}]
    process.signal(signal.SIGTERM)
    assert process.wait(float(settings["TimeoutStopSec"])) == 0


def test_systemd_does_not_restart_after_bad_settings(unit: str, tmp_path: Path) -> None:
    settings = settings_of(unit, "127.0.0.1:0", tmp_path)
    own = dict(word.split("=", 1) for word in settings["Environment"].split())
    command = command_of(settings)
    done = subprocess.run(command, env={**clean_environment(), **own}, cwd=tmp_path, capture_output=True, check=False)
    assert str(done.returncode) == settings["RestartPreventExitStatus"], done.stderr


def test_systemd_accepts_the_units(unit: str, tmp_path: Path) -> None:
    analyze = require("systemd-analyze")
    text = (DEPLOY / unit).read_text().replace("/opt/llm-proxy/.venv/bin", str(Path(tool("python")).parent))
    (tmp_path / unit).write_text(text)
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / unit)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert unit not in done.stderr  # it warns and goes on
