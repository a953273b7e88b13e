"""The process that counts tokens: the tokenizer takes 150 MB and holds up whatever runs beside it.

Run with `-m`. It reads questions from its standard input and answers each with its units as JSON, in order. It ends
when its input does, so with the process that asks; until then signals to the process group are that one's business.
"""

import contextlib
import json
import signal
import sys
from typing import IO

from addon.metering.estimates import counting
from addon.metering.estimates.question import Question, write_block


def serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """Answer questions until there are no more."""
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            write_block(answers, json.dumps(_units(Question.read(questions))).encode())
            answers.flush()


def _units(question: Question) -> dict[str, int]:
    """Return nothing for a question that cannot be counted: the next ones can, and a traceback may quote it."""
    try:
        return counting.units(question)
    except Exception:
        return {}


def main() -> None:
    """Serve the process that started this one."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
