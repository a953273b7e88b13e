"""The use of the processors: where other processes take much of them, a slow test proves nothing about the gateway."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


class Others:
    """Watches the processors from its creation on."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._busy, self._own = _busy(), _own()

    def share(self) -> float:
        """Return the share of all processors that was not idle, nor this process's and its descendants'."""
        taken = (_busy() - self._busy) - (_own() - self._own)
        return max(0.0, taken) / _TICKS / (time.monotonic() - self._started) / len(os.sched_getaffinity(0))


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its descendants so far, user and system."""
    return sum(sum(map(int, _fields(member)[11:13])) for member in _tree(pid)) / _TICKS


def _busy() -> int:
    """Return the ticks that the processors have been busy."""
    user, nice, system, _idle, _waiting, interrupts, soft, stolen, *_ = (
        int(ticks) for ticks in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return user + nice + system + interrupts + soft + stolen


def _own() -> int:
    return sum(sum(map(int, _fields(pid)[11:15])) for pid in _tree(os.getpid()))


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _text(children).split():
            yield from _tree(int(child))


def _fields(pid: int) -> list[str]:
    """Return the fields of a process in /proc after its name."""
    return _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()


def _text(path: Path) -> str:
    """Return a file of /proc; an empty text where the process has just ended."""
    try:
        return path.read_text()
    except OSError:
        return ""
