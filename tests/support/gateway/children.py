"""Programs for a supervisor: they report that they serve, end at a signal, and note their pids."""

import os
import sys
from pathlib import Path

import pytest

READY = "import os; os.write(int(os.environ['LLM_PROXY_READY']), b'5'); os.close(int(os.environ['LLM_PROXY_READY']))"
STOPS = "import signal; [signal.signal(n, lambda *_: exit(0)) for n in (signal.SIGTERM, signal.SIGHUP)]"
NOTE = "import os, sys; open(sys.argv[1], 'a').write(f'{os.getpid()} ')"
SERVING = f"{STOPS}; {NOTE}; {READY}; [signal.pause() for _ in iter(int, 1)]"
"""Serves, and notes its pid in a file."""


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def pids(file: Path) -> list[int]:
    return [int(pid) for pid in file.read_text().split()] if file.exists() else []


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


class Output:
    """The standard error of the children so far."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self._text = ""

    def has(self, text: str, times: int = 1) -> bool:
        self._text += self._capfd.readouterr().err
        return self._text.count(text) >= times
