"""An installation for `./run.sh`: a data folder and three ports."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.gateway.processes import DEADLINE, ROOT, Process, clean_environment, free_port, listens, running


class Installation:
    """A data folder and ports for `./run.sh`."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.proxy, self.manage, self.web = free_port(), free_port(), free_port()
        self.env = {
            **clean_environment(),
            "PROXY_LISTEN": f"127.0.0.1:{self.proxy}",
            "MANAGE_LISTEN": f"127.0.0.1:{self.manage}",
            "WEB_LISTEN": f"127.0.0.1:{self.web}",
            "DATA_DIR": str(self.data),
            "HOME": str(folder),
            "WORKERS": "1",  # the more there are, the longer a start takes
            **settings,
        }

    def run(self, *arguments: str) -> Process:
        return self.start([str(ROOT / "run.sh"), *arguments])

    def start(
        self, command: Sequence[str], cwd: Path = ROOT, *, forked: bool = False, has_rights: bool = True
    ) -> Process:
        log = self.folder / "run.log"
        return Process(command, env=self.env, log=log, cwd=cwd, forked=forked, has_rights=has_rights)

    def ports_are_free(self) -> bool:
        return not any(map(listens, (self.proxy, self.manage, self.web)))

    def wait_until_nothing_runs(self) -> None:
        """Wait until no process has this data folder; kill those left and fail if that takes too long."""
        deadline = time.monotonic() + DEADLINE
        while left := self._processes():
            if time.monotonic() > deadline:
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
                raise AssertionError(f"left running: {left}")
            time.sleep(0.02)  # no event reports the end of another process's child

    def _processes(self) -> list[int]:
        mark = f"DATA_DIR={self.data}".encode()
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it has just ended, or is another user's
                if mark in environ.read_bytes().split(b"\0"):
                    found.append(int(environ.parent.name))
        return found


@contextlib.contextmanager
def started(installation: Installation, *arguments: str, until: str = "is up") -> Iterator[Process]:
    process = installation.run(*arguments)
    with running(process):
        process.wait_for_output(until)
        yield process


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
