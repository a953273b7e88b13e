import os
import pty
import sys
from pathlib import Path

import pytest

from manage_api.cli import set_up

RETRY = (
    "WARNING: Retrying (Retry(total=0, connect=None, read=None)) after connection broken by "
    "'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new "
    "connection: [Errno -3] Temporary failure in name resolution')': /simple/hatchling/"
)
NOTHING = "ERROR: Could not find a version that satisfies the requirement hatchling>=1.27 (from versions: none)"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a `.venv` that looks whole: its Python and pip are those of the tests."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]")
    (tmp_path / "requirements").mkdir()
    for name in set_up.KINDS:
        (tmp_path / set_up.lock_of(name)).write_text("# nothing")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    minor = sys.version_info.minor
    (tmp_path / ".venv" / "installed-for-run").write_text(f"{tmp_path}\nPython 3.{minor}\n[project]# nothing")
    return tmp_path


@pytest.mark.parametrize("changed", ["pyproject.toml", "requirements/run.txt"])
def test_a_complete_venv_is_used_until_another_is_declared_or_locked(folder: Path, changed: str) -> None:
    assert set_up.fault() is None
    assert set_up.is_installed("run")
    assert not set_up.is_installed("test")
    (folder / changed).write_text("# new")
    assert set_up.fault() is None
    assert not set_up.is_installed("run")


def test_an_unfinished_venv_is_made_again(folder: Path) -> None:
    (folder / ".venv" / "unfinished").touch()
    assert set_up.fault() == "its last set-up did not end"
    assert not set_up.is_installed("run")


def test_a_venv_of_another_folder_is_made_again(folder: Path) -> None:
    (folder / ".venv" / "installed-for-test").write_text("/elsewhere\nPython 3.12\n")
    assert set_up.fault() == "it was made in /elsewhere"


@pytest.mark.parametrize("python", ["#!/nowhere/python3", "#!/bin/sh\necho No module named pip >&2\nexit 1", None])
def test_a_venv_without_its_python_is_made_again(folder: Path, python: str | None) -> None:
    file = folder / ".venv" / "bin" / "python"
    if python:
        file.write_text(python)
    else:
        file.unlink()
    assert set_up.fault() == "its Python is not there any more, or has no pip"
    assert not set_up.is_installed("run")


@pytest.mark.parametrize(
    ("log", "stage"),
    [
        ("", "asking for packages"),
        ("Collecting six\n  Downloading six-1.17.0-py2.py3-none-any.whl.metadata (1.7 kB)", "asking for packages"),
        (
            """
  Downloading bpe_openai-0.1.4-cp39-abi3-manylinux_2_17_x86_64.whl (41.6 MB)
  Using cached h2-4.3.0-py3-none-any.whl (61 kB)
  Downloading https://host/ldap3-2.9.1.tar.gz (500 bytes)""",
            "fetching ldap3 (500 bytes); 3 packages, 42 MB so far",
        ),
        ("  Installing collected packages: hatchling", "asking for packages"),  # for the build alone
        ("Downloading a-1.whl (1 MB)\nInstalling collected packages: six, h2\n", "installing 2 packages"),
    ],
)
def test_the_progress_of_pip_is_shown(log: str, stage: str) -> None:
    assert set_up.stage(log) == stage


@pytest.mark.parametrize(
    ("log", "what"),
    [
        (f"{RETRY}\n{NOTHING}", "PyPI cannot be reached (Temporary failure in name resolution)"),
        (
            f"Looking in indexes: https://me:****@index.internal:8443/simple\n      {RETRY}\n      {NOTHING}",
            "index.internal:8443 cannot be reached (Temporary failure in name resolution)",
        ),
        (
            f"after connection broken by 'ProxyError('Cannot connect to proxy.', OSError('Tunnel failed'))'\n{NOTHING}",
            "PyPI cannot be reached through the proxy (ProxyError)",
        ),
        (
            f"after connection broken by 'SSLError(Error(1, '[SSL: CERTIFICATE_VERIFY_FAILED] it failed'))'\n{NOTHING}",
            "PyPI cannot be reached (CERTIFICATE_VERIFY_FAILED)",
        ),
        (
            "ReadTimeoutError: HTTPSConnectionPool(host='files.internal', port=443): Read timed out.",
            "files.internal cannot be reached (timed out)",
        ),
        ("ERROR: Failed to connect to pypi.internal while fetching x", "PyPI cannot be reached"),
    ],
)
def test_a_network_failure_is_recognised(log: str, what: str) -> None:
    assert set_up.unreachable(log) == what


@pytest.mark.parametrize(
    "log",
    [
        NOTHING,  # an index that answered, and has none
        f"{RETRY}\nERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
        f"{RETRY}\nERROR: No matching distribution found for h2==1 (from versions: 4.1, 4.3)",
    ],
)
def test_other_failures_are_not_taken_for_the_network(log: str) -> None:
    assert set_up.unreachable(log) is None


def test_on_a_terminal_one_line_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("COLUMNS", "25")
        shown = set_up.Shown()
        shown.show("fetching mitmproxy", 1)
        shown.show("fetching mitmproxy", 12.4)
        shown.clear()
        printed = ""
        while printed.count("\033[K") < 3:  # one read may return a part
            printed += os.read(master, 1000).decode()
    os.close(master)
    assert printed == "\r    1 s  fetching mitmpr\033[K\r   12 s  fetching mitmpr\033[K\r\033[K"


def test_without_a_terminal_a_line_is_printed_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    shown = set_up.Shown()
    for seconds in (0.2, 1.2, 9.9, 10.3, 20.2, 20.4):
        shown.show("installing", seconds)
    shown.clear()
    assert capsys.readouterr().err.split("\n") == [
        "    0 s  installing",
        "   10 s  installing",
        "   20 s  installing",
        "",
    ]
