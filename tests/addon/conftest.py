import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from addon.replacing import restore_all
from store.runtime.settings import Settings


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.lower() in Settings.model_fields]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _mitmproxy_as_it_was() -> Iterator[None]:
    yield
    restore_all()
