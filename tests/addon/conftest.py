import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from addon.replacing import restore_all
from store.admission import inbox, write_behind
from store.runtime.settings import Settings


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.lower() in Settings.model_fields]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each path that its mark `paths` names."""
    mark = metafunc.definition.get_closest_marker("paths")
    if mark is not None:
        metafunc.parametrize("_path", mark.args, indirect=True, ids=[f"plain path {value}" for value in mark.args])


@pytest.fixture(autouse=True)
def _path(request: pytest.FixtureRequest, _no_settings_around: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting that decides between the plain path and the layers, for the gateways of a test."""
    if hasattr(request, "param"):
        monkeypatch.setenv("PLAIN_PATH", request.param)


@pytest.fixture(autouse=True)
def _mitmproxy_as_it_was() -> Iterator[None]:
    yield
    restore_all()


@pytest.fixture
def _rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are written after a moment that is too short to wait for."""
    for module in (inbox, write_behind):
        monkeypatch.setattr(module, "FLUSH_DELAY", 0.005)
