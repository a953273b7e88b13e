"""How each of the project's processes starts and stops, alike."""

import asyncio
import contextlib
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable

from store.errors import StartupError

CANNOT_START = 1
BAD_SETTINGS = 2

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

SUPERVISED = "LLM_PROXY_SUPERVISED"
"""Set in the environment of a process whose standard input ends when its supervisor is gone."""


def or_exit[T](make: Callable[[], T], status: int) -> T:
    """Return what `make` returns; on a StartupError end the process with its message and `status`."""
    try:
        return make()
    except StartupError as error:
        print(error, file=sys.stderr)
        sys.exit(status)


def allow_many_open_files() -> None:
    """Take as many open files as the system lets this process have: a request takes two, and the default is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # "unlimited" is more than some systems take
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def ignore_stop_signals(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Ignore further signals: the process is ending, and one more must not change how.

    `loop` is the one that has handled them so far; at its end it would put their defaults back.
    """
    for number in STOP_SIGNALS:
        if loop is not None:
            loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def stop_with_supervisor() -> None:
    """Have a supervised process stop when its supervisor is gone, however that ended."""
    if os.environ.get(SUPERVISED):
        threading.Thread(target=_stop_at_end_of_input, name="supervisor-watch", daemon=True).start()


def _stop_at_end_of_input() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
