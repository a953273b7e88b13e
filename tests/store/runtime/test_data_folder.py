from pathlib import Path

import pytest

from store.runtime import data_folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the packages; and XDG_DATA_HOME, which says where a user's data are on Linux."""
    monkeypatch.setattr(data_folder, "_ROOT", tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    return tmp_path


def test_a_clone_keeps_its_data_beside_run_sh(root: Path) -> None:
    (root / "run.sh").touch()
    assert data_folder.default() == Path("data")


def test_a_wheel_keeps_them_in_the_users_own_folder(root: Path) -> None:
    assert data_folder.default() == root / "share" / "llm-proxy"
