"""Has tokens counted in a process of its own, which is there only while there is something to count."""

import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from addon.metering.estimates.question import Question, read_block
from store.ledger.usage import Consumption, Metered, Source, Units

TIMEOUT = 30.0
"""Seconds that the answer to a question may take, the start of the process included."""
IDLE_TIME = 60.0
"""Seconds after the last question, until the process ends."""
MAX_WAITING = 256
"""Questions that may wait for their answer."""
MAX_WAITING_BYTES = 64 * 1024 * 1024

_log = logging.getLogger(__name__)

_ROOT = Path(__file__).parents[3]
"""Where the package `addon` is."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
"""The environment has secrets; the process gets nothing else of it."""


class Estimator:
    """Counts tokens in a helper process, started at the first question, ended when idle or with this process."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "estimator", _block_signals)
        """Talks to the process: one question after the other, in order."""
        self._helper: subprocess.Popen[bytes] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._waiting = 0
        self._waiting_bytes = 0
        self._is_missing: bool | None = None

    async def answer(self, question: Question) -> Metered | None:
        """Return the estimate, or None where it cannot be made: the usage stays unknown then."""
        if self._is_closed or self._lacks_tokenizer() or self._is_full(question):
            return None
        self._begin(question)
        try:
            units = await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, question)
        finally:
            self._end(question)
        if not units:
            return None
        consumption = Consumption(question.model, units, question.service_tier)
        return Metered(Source.ESTIMATED, (consumption,), question.model_asked, question.model)

    def close(self) -> None:
        """End the process; what still waits is answered with None."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._idle is not None:
            self._idle.cancel()
        helper = self._helper
        if helper is not None:
            helper.kill()
        self._thread.submit(self._end_helper)
        self._thread.shutdown()

    def _lacks_tokenizer(self) -> bool:
        if self._is_missing is None:
            self._is_missing = importlib.util.find_spec("bpe_openai") is None
            if self._is_missing:
                _log.warning(
                    "usage that no answer tells is not estimated: bpe-openai is missing; "
                    "in the folder of run.sh: pip install --editable '.[estimates]'"
                )
        return self._is_missing

    def _is_full(self, question: Question) -> bool:
        return self._waiting >= MAX_WAITING or self._waiting_bytes + question.size > MAX_WAITING_BYTES

    def _begin(self, question: Question) -> None:
        self._waiting += 1
        self._waiting_bytes += question.size
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _end(self, question: Question) -> None:
        self._waiting -= 1
        self._waiting_bytes -= question.size
        if not self._waiting and not self._is_closed:
            self._idle = asyncio.get_running_loop().call_later(IDLE_TIME, self._thread.submit, self._end_helper)

    def _ask(self, question: Question) -> Units | None:
        """Return the units, or None where the process died, or was killed as it took too long. Runs in the thread."""
        if self._is_closed:
            return None
        try:
            helper = self._helper = self._helper or _start()
            if self._is_closed:  # `close` may not have seen it
                helper.kill()
            return _ask(helper, question)
        except (OSError, EOFError, ValueError):
            self._end_helper()
            return None

    def _end_helper(self) -> None:
        """End the process. Runs in the thread."""
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.kill()
            _pipe(helper.stdout).close()
            with contextlib.suppress(OSError):  # what was not sent yet
                _pipe(helper.stdin).close()
            helper.wait()


def _block_signals() -> None:
    """Have the process that this thread starts hold back signals to all from its first moment, until it ignores them.

    Other threads of this process take them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _start() -> subprocess.Popen[bytes]:
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "addon.metering.estimates.tokenizer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**environment, "PYTHONPATH": str(_ROOT)},
    )


def _ask(helper: subprocess.Popen[bytes], question: Question) -> Units:
    """Ask the process. Raises OSError and EOFError where it dies, ValueError where it answers nonsense."""
    deadline = threading.Timer(TIMEOUT, helper.kill)
    deadline.start()
    try:
        question.write(_pipe(helper.stdin))
        units: Units = json.loads(read_block(_pipe(helper.stdout)))
    finally:
        deadline.cancel()
    return units


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise OSError("the process has no pipe")
    return pipe
