"""The process that counts tokens: the tokenizer needs 150 MB, and would block everything else in its process.

Run with `-m`. It reads estimate requests from its standard input and writes the units of each as JSON, in order. It
ends with its input, so with the process that asks. It ignores signals to the process group: that process handles them.
"""

import contextlib
import json
import signal
import sys
from typing import IO

from addon.metering.estimates import counting
from addon.metering.estimates.estimate_request import EstimateRequest, write_block


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until there are no more."""
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            write_block(answers, json.dumps(_units(EstimateRequest.read(requests))).encode())
            answers.flush()


def _units(request: EstimateRequest) -> dict[str, int]:
    """Return no units where counting fails: the next requests may succeed, and a traceback may quote this one."""
    try:
        return counting.units(request)
    except Exception:
        return {}


def main() -> None:
    """Serve the process that started this one."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
