"""Makes `.venv` and installs into it what a command needs. run.sh starts this file, in its own folder.

It runs with the system's Python, before anything is installed: so it imports the standard library alone. The packages
are those of the locks in `requirements/`, by their hashes, so that each set-up installs the same.

A set-up may be killed at any moment. What pip had begun is not repaired then, as pip cannot tell a package that is
half there from a whole one: while `.venv/unfinished` exists, the next set-up begins with an empty `.venv`. A virtual
environment that belongs to another folder, or whose Python has gone, is made again too.
"""

import fcntl
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

VENV = Path(".venv")
UNFINISHED = VENV / "unfinished"
LOCK = VENV / "lock"
LOG = VENV / "set-up.log"
_PYTHON = VENV / "bin" / "python"
_MARK = "installed-for-"
"""The file `.venv/installed-for-NAME` says for which folder, Python, pyproject.toml and lock; run.sh compares it."""

_TICK = 0.2
_LINE_EVERY = 10.0
"""Seconds between two signs of life: on a terminal, and where each one is a line of its own."""

BUILD = Path("requirements", "build.txt")
"""The lock of what installs the project itself."""

_LAST_LINES = 12

_NETWORK = (r"ConnectionPool\(host=", "Failed to connect to ", "Unable to fetch ", "not enough bytes were received")
"""The words of pip, in versions 23 to 26, where it gives up because of the network."""


class Kind(NamedTuple):
    """A set of packages: the extra that declares it, which sets are in it, and its size (Linux, x86-64) for a human."""

    extra: str
    contains: Sequence[str]
    size: str


KINDS = {
    "run": Kind("estimates", ("run",), "80 MB to download, 240 MB on the disk"),
    "test": Kind("test", ("run", "test"), "180 MB to download, 500 MB on the disk"),
    "soak": Kind("soak", ("run", "test", "soak"), "190 MB to download, 540 MB on the disk"),
    "release": Kind("release", ("run", "release"), "120 MB to download, 350 MB on the disk"),
}


class SetUpError(Exception):
    """The set-up cannot be done; the text says why, and what to do."""


def main(name: str) -> int:
    """Set up what a name in KINDS stands for; return the exit status."""
    try:
        VENV.mkdir(exist_ok=True)
        with LOCK.open("ab") as lock:
            _acquire(lock.fileno())
            if not is_installed(name):
                _set_up(name, lock.fileno())
    except SetUpError as error:
        return _failed(str(error), 1)
    except OSError as error:
        return _failed(f"{error.strerror}: {error.filename or VENV}", 1)
    except KeyboardInterrupt:
        return _failed("It was stopped; the next ./run.sh sets up again.", 130)
    return 0


def is_installed(name: str) -> bool:
    """Tell whether everything is there, by this lock. run.sh asks the same, without a Python."""
    mark = VENV / f"{_MARK}{name}"
    return not UNFINISHED.exists() and mark.exists() and mark.read_text() == _mark(name)


def lock_of(name: str) -> Path:
    """Return the file that pins the packages of a set: a requirements file of pip, with hashes."""
    return Path("requirements", f"{name}.txt")


def fault() -> str | None:
    """Return why `.venv` cannot be used as it is; None where it can."""
    if UNFINISHED.exists():
        return "its last set-up did not end"
    if _version() is None:
        return "its Python is not there any more, or has no pip"
    folders = {mark.read_text().partition("\n")[0] for mark in VENV.glob(f"{_MARK}*")}
    if elsewhere := folders - {str(Path.cwd())}:
        return f"it was made in {elsewhere.pop()}"
    return None


def stage(log: str) -> str:
    """Say in a few words how far pip is, by its output."""
    if installing := re.search(r"^Installing collected packages: (.*)", log, re.MULTILINE):
        return f"installing {installing[1].count(',') + 1} packages"
    files = re.findall(r"(?:Downloading|Using cached) (?:\S*/)?(\S+?)-\d\S*\.(?:whl|tar\.gz) \(([\d.]+) (\w+)\)", log)
    if not files:
        return "asking for packages"
    size = sum(float(number) * {"MB": 1, "kB": 1e-3}.get(unit, 1e-6) for _, number, unit in files)
    return f"fetching {files[-1][0]} ({files[-1][1]} {files[-1][2]}); {len(files)} packages, {size:.0f} MB so far"


def unreachable(log: str) -> str | None:
    """Say what pip could not reach, and why, by its output; None where it failed for another reason."""
    retries = [line for line in log.splitlines() if "connection broken by" in line]
    others = "\n".join(line for line in log.splitlines() if line not in retries)
    # Older versions pass over an index that does not answer, as if it had nothing; newer ones have words of their own.
    is_passed_over = retries and "(from versions: none)" in others
    if not is_passed_over and not re.search("|".join(_NETWORK), others):
        return None
    hosts = re.findall(r"host='([^']+)'|Looking in indexes: \w+://(?:[^@/\s]*@)?([^/\s]+)", log)
    causes = re.findall(r"\[Errno -?\d+\] ([\w ]+)|(CERTIFICATE_VERIFY_FAILED)|broken by '(\w+)|(timed out)", log)
    where, why = ("".join(found[-1]) if found else None for found in (hosts, causes))
    way = " through the proxy" if "ProxyError" in log else ""
    return f"{where or 'PyPI'} cannot be reached{way}" + (f" ({why})" if why else "")


def _acquire(lock: int) -> None:
    """Wait until no other set-up works in this folder: neither this program nor a pip that outlived it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _say("Waiting for another set-up of LLM Proxy in this folder ...")
        fcntl.flock(lock, fcntl.LOCK_EX)


def _set_up(name: str, lock: int) -> None:
    began = time.monotonic()
    is_new = {*VENV.iterdir()} == {LOCK}
    why = fault()
    if any(VENV.glob(f"{_MARK}*")) and not why:
        _say("Bringing .venv up to date.")
    else:
        again = f" again, as {why}" if why and not is_new else ""
        size = KINDS[name].size
        _say(f"Setting up LLM Proxy in .venv{again}: about {size}, within a minute on a fast connection.")
    if why:
        _make_venv(lock)
    _install(name, lock)
    _say(f"Set up in {time.monotonic() - began:.0f} s.")


def _make_venv(lock: int) -> None:
    """Make an empty virtual environment with pip. Raises SetUpError."""
    version = ".".join(map(str, sys.version_info[:2]))
    try:
        import ensurepip  # noqa: F401, PLC0415 - Debian has it in a package of its own
        import venv  # noqa: F401, PLC0415 - the same
    except ImportError as error:
        raise SetUpError(
            f"Python {version} is here without its module {error.name}. "
            f"On Debian and Ubuntu: apt install python{version}-venv. Then run it again."
        ) from None
    UNFINISHED.touch()
    for path in VENV.iterdir():
        if path not in {UNFINISHED, LOCK}:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    # Not sys.executable: that may be the one in the .venv which has just been removed, where it was activated.
    python: str = sys._base_executable  # type: ignore[attr-defined] # noqa: SLF001 - the venv module uses it too
    if _run([python, "-Im", "venv", str(VENV)], lock, lambda _: f"making .venv with Python {version}"):
        raise SetUpError(f"{python} cannot make a virtual environment. {_last_words()}")


def _install(name: str, lock: int) -> None:
    """Install a set of packages by its lock, then the project itself, and note that. Raises SetUpError.

    pip takes no hashes beside a folder, so these are two steps; the second one needs no network.
    """
    LOG.unlink(missing_ok=True)
    UNFINISHED.touch()
    pip = [str(_PYTHON), "-Ium", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    packages = ["--require-hashes", "--requirement", str(lock_of(name)), "--requirement", str(BUILD)]
    project = ["--no-index", "--no-deps", "--no-build-isolation", "--editable", "."]
    try:
        status = _run([*pip, *packages], lock, stage) or _run([*pip, *project], lock, stage)
    except BaseException:
        _forgive()
        raise
    if status:
        _forgive()
        network = unreachable(_log())
        raise SetUpError(
            f"{network}. The next ./run.sh tries again; pip's own words are in {LOG}." if network else _last_words()
        )
    for mark in VENV.glob(f"{_MARK}*"):
        if mark.read_text() != _mark(mark.name.removeprefix(_MARK)):
            mark.unlink()
    for contained in KINDS[name].contains:
        (VENV / f"{_MARK}{contained}").write_text(_mark(contained))
    UNFINISHED.unlink()


def _forgive() -> None:
    """Let `.venv` count as before, unless pip had begun to change it: without a network the old version still runs."""
    if "\nInstalling collected packages" not in f"\n{_log()}":
        UNFINISHED.unlink(missing_ok=True)


def _run(command: Sequence[str], lock: int, tell: Callable[[str], str]) -> int:
    """Run a command with its output in LOG, and say how far it is by that. It holds the lock too: it may outlive us."""
    began, shown = time.monotonic(), Shown()
    with LOG.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - Python itself
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[lock]
        )
    try:
        while True:
            try:
                return process.wait(_TICK)
            except subprocess.TimeoutExpired:
                shown.show(tell(_log()), time.monotonic() - began)
    finally:
        process.kill()  # only a Ctrl-C comes here before its end
        process.wait()
        shown.clear()


class Shown:
    """The progress, for people: a line that changes on a terminal, otherwise few lines."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._next = 0.0

    def show(self, text: str, seconds: float) -> None:
        """Say how far it is, after so many seconds; it is called often."""
        line = f"{seconds:5.0f} s  {text}"  # a narrow terminal shows at least that something moves
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{line[:width]}\033[K", end="", file=sys.stderr, flush=True)
        elif seconds >= self._next:
            _say(line)
            self._next = seconds + _LINE_EVERY

    def clear(self) -> None:
        """Remove the line that changes."""
        if self._is_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _version() -> str | None:
    """Return the version of the Python in `.venv`, as run.sh writes it; None where it, or its pip, does not work."""
    code = "import pip, sys; print('Python %d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([_PYTHON, "-Ic", code], capture_output=True, text=True, check=True)  # noqa: S603 - ours
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _mark(name: str) -> str:
    return f"{Path.cwd()}\n{_version()}\n{Path('pyproject.toml').read_text()}{lock_of(name).read_text()}"


def _log() -> str:
    return LOG.read_text(errors="replace")


def _last_words() -> str:
    """Return the last lines of the log: from the first error on, if that is near."""
    lines = [line for line in _log().splitlines() if line.strip()][-_LAST_LINES:]
    return "\n".join([f"All of it is in {LOG}, which ends with:", *(f"  {line}" for line in lines)])


def _failed(why: str, status: int) -> int:
    _say(f"LLM Proxy is not set up. {why}")
    return status


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
