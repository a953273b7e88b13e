import os
import signal
import subprocess

import pytest
from support.processes import python
from support.signals import signals_kept

from store.lifecycle import STOP_SIGNALS, note_stop_signals

COUNT_FILES = """
import os, resource
from store.lifecycle import allow_many_open_files
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (32, most))
allow_many_open_files()
print(len([os.open(os.devnull, os.O_RDONLY) for _ in range(100)]))
"""


def test_more_files_can_be_open_than_by_default() -> None:
    done = subprocess.run(python("-c", COUNT_FILES), capture_output=True, text=True, check=True)
    assert done.stdout == "100\n"


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_stop_signal_is_noted_and_ends_nothing(number: signal.Signals) -> None:
    with signals_kept():
        stopped = note_stop_signals()
        assert not stopped()
        os.kill(os.getpid(), number)
        assert stopped()
