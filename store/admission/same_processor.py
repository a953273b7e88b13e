"""Keeps the writer thread on the processor of the event loop, while both are busy.

They take turns with the interpreter (GIL): each call into the database leaves it to the event loop, and each call into
a socket to the writer, some forty times in a transaction. On two processors each turn wakes a sleeping thread with cold
caches, which costs 10 to 25 % of the CPU. Where requests come one at a time the event loop sleeps meanwhile, and two
processors are better. The event loop itself runs wherever the system puts it.
"""

import ctypes
import os
from collections.abc import Callable

_ANY = -1


def _getcpu() -> Callable[[], int] | None:
    """Return the C library's `sched_getcpu`, called without giving up the GIL; None where there is no such thing."""
    is_linux = hasattr(os, "sched_setaffinity")
    return getattr(ctypes.PyDLL(None), "sched_getcpu", None) if is_linux else None


class SameProcessor:
    """The processor of the event loop, which the writer thread follows."""

    def __init__(self) -> None:
        self._getcpu = _getcpu()
        self._of_the_loop = self._of_the_writer = _ANY

    def note(self) -> None:
        """Note the processor of the calling thread, the event loop's."""
        if self._getcpu is not None:
            self._of_the_loop = self._getcpu()

    def follow(self, *, is_busy: bool) -> None:
        """Move the calling thread, the writer, to the processor that was noted last, or let it run anywhere.

        Raises nothing.
        """
        wanted = self._of_the_loop if is_busy else _ANY
        if self._getcpu is None or wanted == self._of_the_writer:
            return
        self._of_the_writer = wanted
        try:
            # The first thread's, as an operator may have changed that.
            os.sched_setaffinity(0, os.sched_getaffinity(os.getpid()) if wanted == _ANY else {wanted})
        except OSError:
            self._getcpu = None  # the system does not allow it
