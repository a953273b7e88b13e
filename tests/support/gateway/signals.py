"""Signal handlers, restored: in these tests the process that a signal stops is the tests' own."""

import contextlib
import signal
from collections.abc import Iterator

from store.runtime.lifecycle import STOP_SIGNALS


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Restore the handlers of the stop signals after the block."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
