"""How each of the project's processes starts and stops, alike."""

import asyncio
import contextlib
import io
import os
import resource
import signal
import socket
import sys
import threading
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
"""Set in the environment of a process whose standard input ends when its supervisor is gone."""

SOCKETS = "LLM_PROXY_SOCKETS"
"""Names the descriptors on which a process finds what it listens on already open: `5,6`."""

READY = "LLM_PROXY_READY"
"""Names the descriptor to which a process writes when it serves: the seconds that its requests may go on at a stop.

After a space follows the address of a page that it serves besides, if there is one. It may be a secret: a login.
"""

BACKLOG = 1024
"""Connections that may wait until a process takes them; the system may allow fewer."""


class _Output(io.FileIO):
    """A standard output that takes everything, whether anybody still reads it or not."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(memoryview(data).cast("B"))


def begin() -> None:
    """Start a process of the project, alike for each; before anything else."""
    _outlive_output()
    for number in STOP_SIGNALS:
        signal.signal(number, _end_cleanly)  # until there is something to drain, and a handler that does
    if is_supervised():
        threading.Thread(target=_stop_at_end_of_input, name="supervisor-watch", daemon=True).start()


def _end_cleanly(_number: int, _frame: FrameType | None) -> None:
    # In the middle of an import an object may be left half made, which complains at its end, or a library may make
    # another exception of this one.
    sys.unraisablehook = lambda _: None
    sys.excepthook = lambda *_: os._exit(0)
    sys.exit(0)


def _outlive_output() -> None:
    """Go on when the terminal is closed, or the reader of a pipe is gone: what is under way matters more than a line.

    A standard descriptor that is closed from the start is opened on nothing, so that no file or socket becomes it.
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
    """Return what a supervisor has opened for this process to listen on; it stays open when this process has ended."""
    return [
        socket.socket(fileno=int(descriptor)) for descriptor in filter(None, os.environ.get(SOCKETS, "").split(","))
    ]


def is_supervised() -> bool:
    """Tell whether a supervisor has started this process."""
    return bool(os.environ.get(SUPERVISED))


def tell_ready(drain_timeout: float, page: str = "") -> None:
    """Tell the supervisor, if there is one that asks, that this process serves, and how long it drains; once.

    `page` is the address of a page that it serves besides, with its login.
    """
    descriptor = os.environ.pop(READY, "")
    if descriptor:
        with contextlib.suppress(BrokenPipeError):  # it is about to stop, and does not ask any more
            os.write(int(descriptor), f"{drain_timeout:g} {page}".rstrip().encode() + b"\n")
        os.close(int(descriptor))


def allow_many_open_files() -> None:
    """Take as many open files as the system lets this process have: a request takes two, and the default is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # "unlimited" is more than some systems take
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def note_stop_signals() -> Callable[[], bool]:
    """Return what tells whether a stop signal has come since; from now on none ends the process by itself."""
    came: list[int] = []
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, _frame: came.append(number))
    return lambda: bool(came)


def interrupt_at_stop_signals() -> None:
    """Raise KeyboardInterrupt at each stop signal from now on: for what ends well anywhere, but is not done then."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)


def ignore_stop_signals(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Ignore further signals: the process is ending, and one more must not change how.

    `loop` is the one that has handled them so far; at its end it would put their defaults back.
    """
    for number in STOP_SIGNALS:
        if loop is not None:
            loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def _stop_at_end_of_input() -> None:
    """Stop when the supervisor is gone, however that ended."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
