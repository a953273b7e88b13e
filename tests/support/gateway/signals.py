"""Signal handlers, put back: what stops a process in these tests is the process that tests."""

import contextlib
import signal
from collections.abc import Iterator

from store.runtime.lifecycle import STOP_SIGNALS


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Put the handlers of the stop signals back after the block."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
