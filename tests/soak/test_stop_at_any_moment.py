"""Stops the whole program at every moment of its start, and with a process that ignores signals."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gateway.installation import Installation, children, started
from support.gateway.processes import DEADLINE, Process, running, tool

pytestmark = pytest.mark.soak("addon/serving", "manage_api/cli", "store/runtime")

STEP = 0.05
MOMENTS = 40


def starts(folder: Path) -> Iterator[tuple[int, Process]]:
    """Start everything again and again, and yield it at another moment each time; no process may be left after it."""
    installation = Installation(folder, UPSTREAM_URL="http://127.0.0.1:9")
    for moment in range(MOMENTS):
        process = installation.start([tool("llm-proxy"), "start"])
        with running(process):
            while not children(process.pid):
                time.sleep(0.001)
            time.sleep(moment * STEP)  # the moment is the point
            yield moment, process
        installation.wait_until_nothing_runs()
        assert "Traceback" not in process.output()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_at_any_moment_of_the_start_is_clean(tmp_path: Path, number: signal.Signals) -> None:
    # Before the program has read itself, a signal ends it as it ends any program; Ctrl-C may even be lost in an import.
    for moment, process in starts(tmp_path):
        os.killpg(process.pid, number)
        os.killpg(process.pid, number)
        assert process.wait() == 0, (moment, process.output())


def test_a_hangup_at_any_moment_of_the_start_ends_nothing(tmp_path: Path) -> None:
    for moment, process in starts(tmp_path):
        process.signal(signal.SIGHUP)
        process.wait_for_output("is up", times=moment + 1)  # all starts have one file for their output
        assert process.stop() == 0, (moment, process.output())


def test_a_kill_at_any_moment_of_the_start_leaves_no_process(tmp_path: Path) -> None:
    for _, process in starts(tmp_path):
        process.signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("which", [0, 1])
def test_a_process_that_ignores_signals_is_killed(tmp_path: Path, which: int) -> None:
    installation = Installation(tmp_path, UPSTREAM_URL="http://127.0.0.1:9", DRAIN_TIMEOUT="1")
    with started(installation) as process:
        os.kill(children(process.pid)[which], signal.SIGSTOP)
        process.signal(signal.SIGTERM)
        assert process.wait(2 * DEADLINE) == 1
        assert "which did not end" in process.output()
    installation.wait_until_nothing_runs()
