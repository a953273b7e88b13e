"""The start and stop of a process, the same for all of the project's."""

import asyncio
import contextlib
import io
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from store.errors import StartupError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CANNOT_START = 1
BAD_SETTINGS = 2

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_STDOUT, _STDERR = 1, 2

SUPERVISED = "LLM_PROXY_SUPERVISED"
"""Set in the environment of a process whose standard input ends when its supervisor has ended."""

SOCKETS = "LLM_PROXY_SOCKETS"
"""Names the descriptors of the open sockets on which a process listens: `5,6`."""

READY = "LLM_PROXY_READY"
"""Names the descriptor to which a process writes once it serves: the seconds that its requests may go on at a stop.

After a space follows the address of a page that it also serves, if there is one. It may hold a secret: a login.
"""

MITMWEB = "LLM_PROXY_MITMWEB"
"""Names the address of mitmweb, where it runs beside: without its login, so that pages can lead there."""

STOP_AGAIN = 2.0
"""Seconds after which a process that has not ended gets the signal again."""

BACKLOG = 1024
"""Connections that may wait until a process takes them; the system may allow fewer."""


class _Output(io.FileIO):
    """A standard output that accepts all output, even when its reader is gone."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(memoryview(data).cast("B"))


def begin() -> None:
    """Start a process of the project; called before anything else."""
    _outlive_output()
    for number in STOP_SIGNALS:
        signal.signal(number, _end_cleanly)  # until there are requests to drain, and a handler that does
    if is_supervised():
        threading.Thread(target=_stop_at_end_of_input, name="supervisor-watch", daemon=True).start()


def _end_cleanly(_number: int, _frame: FrameType | None) -> None:
    # During an import an object may be left unfinished and raise when it is deleted, or a library may catch SystemExit
    # and raise another exception.
    sys.unraisablehook = lambda _: None
    sys.excepthook = lambda *_: os._exit(0)
    sys.exit(0)


def _outlive_output() -> None:
    """Go on when the terminal is closed, or the reader of a pipe is gone: requests matter more than log lines.

    A standard descriptor that is closed from the start is opened on /dev/null, so that no socket gets its number.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout, sys.stderr = _output(_STDOUT), _output(_STDERR)


def _output(descriptor: int) -> io.TextIOWrapper:
    raw = io.BufferedWriter(_Output(descriptor, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def or_exit[T](make: Callable[[], T], status: int) -> T:
    """Return what `make` returns; on a StartupError end the process with its message and `status`."""
    try:
        return make()
    except StartupError as error:
        print(error, file=sys.stderr)
        sys.exit(status)


def given_sockets() -> list[socket.socket]:
    """Return the sockets that a supervisor has opened for this process; they stay open when this process has ended."""
    return [
        socket.socket(fileno=int(descriptor)) for descriptor in filter(None, os.environ.get(SOCKETS, "").split(","))
    ]


def is_supervised() -> bool:
    """Tell whether a supervisor has started this process."""
    return bool(os.environ.get(SUPERVISED))


def tell_ready(drain_timeout: float, page: str = "") -> None:
    """Report to the supervisor, if it asks for that, that this process serves, and how long it drains; once.

    `page` is the address of a page that it also serves, with its login.
    """
    descriptor = os.environ.pop(READY, "")
    if descriptor:
        with contextlib.suppress(BrokenPipeError):  # the supervisor is about to stop
            os.write(int(descriptor), f"{drain_timeout:g} {page}".rstrip().encode() + b"\n")
        os.close(int(descriptor))


def allow_many_open_files() -> None:
    """Raise the limit of open files to what the system allows: a request needs two, and the default is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # some systems do not accept "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def note_stop_signals() -> Callable[[], bool]:
    """Return a function that tells whether a stop signal has come since; none ends the process by itself any more."""
    came: list[int] = []
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, _frame: came.append(number))
    return lambda: bool(came)


def interrupt_at_stop_signals() -> None:
    """Raise KeyboardInterrupt at each stop signal from now on: for work that may end anywhere, unfinished."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)


def ignore_stop_signals(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Ignore further signals: the process is ending, and another signal must not change how.

    `loop` is the event loop that has handled them so far; at its end it would restore their defaults.
    """
    for number in STOP_SIGNALS:
        if loop is not None:
            loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def _stop_at_end_of_input() -> None:
    """Stop when the supervisor has ended, even by a crash. The signal is repeated, as an import may swallow one."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_AGAIN)
