"""The cost of a call, as a ratio to a reference in the same moment, so that the machine's speed cancels out."""

import time
from collections.abc import Callable

_MEBIBYTE = bytes(range(256)) * 4096
ROUNDS = 5


def passes(call: Callable[[], object]) -> float:
    """Return the CPU time of a call as a multiple of that of adding up the bytes of a mebibyte, in this thread.

    Each is the least of some rounds: other work can only add to it.
    """
    reference = min(_cpu(lambda: sum(_MEBIBYTE)) for _ in range(ROUNDS))
    return min(_cpu(call) for _ in range(ROUNDS)) / reference


def _cpu(call: Callable[[], object]) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start
