"""Has tokens counted in a helper process, which runs only while there is something to count."""

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

from addon.metering.estimates.estimate_request import EstimateRequest, read_block
from addon.metering.names import may_think
from store.ledger.usage import Consumption, Metered, Source, Units

TIMEOUT = 30.0
"""Seconds that an estimate may take, including the start of the process."""
IDLE_TIME = 60.0
"""Seconds after the last estimate until the process ends."""
MAX_WAITING = 256
"""Estimates that may wait; further ones are not made."""
MAX_WAITING_BYTES = 64 * 1024 * 1024

_log = logging.getLogger(__name__)

_ROOT = Path(__file__).parents[3]
"""The folder of the package `addon`."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
"""The only variables that the process gets: the environment holds secrets."""


class Estimator:
    """Counts tokens in a helper process, started at the first request, ended when idle or with this process."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "estimator", _block_signals)
        """Talks to the process: one request at a time, in order."""
        self._helper: subprocess.Popen[bytes] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._waiting = 0
        self._waiting_bytes = 0
        self._is_missing: bool | None = None

    async def estimate(self, request: EstimateRequest) -> Metered | None:
        """Return the estimate, or None where it cannot be made: then the usage stays unknown."""
        if self._is_closed or self._lacks_tokenizer() or self._is_full(request):
            return None
        self._begin(request)
        try:
            units = await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, request)
        finally:
            self._end(request)
        if not units:
            return None
        consumption = Consumption(request.model, units, request.conditions)
        is_minimum = may_think(request.model or request.model_asked)
        return Metered(Source.ESTIMATED, (consumption,), request.model_asked, request.model, is_minimum)

    def close(self) -> None:
        """End the process; the estimates that still wait are None."""
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
                    "unreported usage is not estimated: bpe-openai is missing; "
                    "to install it: %s -m pip install bpe-openai",
                    sys.executable,
                )
        return self._is_missing

    def _is_full(self, request: EstimateRequest) -> bool:
        return self._waiting >= MAX_WAITING or self._waiting_bytes + request.size > MAX_WAITING_BYTES

    def _begin(self, request: EstimateRequest) -> None:
        self._waiting += 1
        self._waiting_bytes += request.size
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _end(self, request: EstimateRequest) -> None:
        self._waiting -= 1
        self._waiting_bytes -= request.size
        if not self._waiting and not self._is_closed:
            self._idle = asyncio.get_running_loop().call_later(IDLE_TIME, self._thread.submit, self._end_helper)

    def _ask(self, request: EstimateRequest) -> Units | None:
        """Return the units, or None where the process died, or was killed after TIMEOUT. Runs in the thread."""
        if self._is_closed:
            return None
        try:
            helper = self._helper = self._helper or _start()
            if self._is_closed:  # `close` may not have seen it
                helper.kill()
            return _ask(helper, request)
        except (OSError, EOFError, ValueError):
            self._end_helper()
            return None

    def _end_helper(self) -> None:
        """End the process. Runs in the thread."""
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.kill()
            _pipe(helper.stdout).close()
            with contextlib.suppress(OSError):  # unsent data is lost
                _pipe(helper.stdin).close()
            helper.wait()


def _block_signals() -> None:
    """Block signals in this thread: the process that it starts inherits that, until it ignores them.

    Other threads of this process handle them.
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


def _ask(helper: subprocess.Popen[bytes], request: EstimateRequest) -> Units:
    """Ask the process. Raises OSError and EOFError where it dies, ValueError where it does not answer in JSON."""
    deadline = threading.Timer(TIMEOUT, helper.kill)
    deadline.start()
    try:
        request.write(_pipe(helper.stdin))
        units: Units = json.loads(read_block(_pipe(helper.stdout)))
    finally:
        deadline.cancel()
    return units


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise OSError("the process has no pipe")
    return pipe
