import logging
from pathlib import Path

import pytest

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
