import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.runtime.lifecycle import STOP_SIGNALS
from store.runtime.settings import Settings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of commands that are called in this process, without settings."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("manage_api.cli.commands.begin", lambda: None)  # it is about processes, not about commands
    for attribute in ("handlers", "level"):
        monkeypatch.setattr(logging.root, attribute, getattr(logging.root, attribute))
    return tmp_path


@pytest.fixture(params=["sqlite", "postgresql"])
def folder_of_each_store(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of commands on a store of each engine."""
    if request.param == "postgresql":
        monkeypatch.setenv("DATABASE_URL", request.getfixturevalue("postgresql_server").make_database())
    return folder


@pytest.fixture(autouse=True)
def _stop_signals_are_as_before() -> Iterator[None]:
    """Commands that end well at a signal leave handlers of their own."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
