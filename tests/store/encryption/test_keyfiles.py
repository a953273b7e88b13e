import itertools
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store.encryption import keyfiles


def test_a_secret_that_is_not_made_yet_reads_as_none(tmp_path: Path) -> None:
    assert keyfiles.read(tmp_path / "secret") is None


def test_a_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert keyfiles.read_or_make(path, lambda: "first") == "first"
    assert keyfiles.read_or_make(path, lambda: "second") == "first"
    assert keyfiles.read(path) == "first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]  # no draft stays


def test_several_makers_at_once_get_the_same_secret(tmp_path: Path) -> None:
    numbers, makers = itertools.count(), 16
    barrier = threading.Barrier(makers)

    def make() -> str:
        barrier.wait(10)  # all have found no file
        return f"secret {next(numbers)}"

    with ThreadPoolExecutor(makers) as pool:
        secrets = list(pool.map(lambda _: keyfiles.read_or_make(tmp_path / "secret", make), range(makers)))
    assert len(set(secrets)) == 1
    assert next(numbers) == makers
    assert len(list(tmp_path.iterdir())) == 1


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> str:
        raise RuntimeError("no entropy")

    with pytest.raises(RuntimeError, match="no entropy"):
        keyfiles.read_or_make(tmp_path / "secret", fail)
    assert list(tmp_path.iterdir()) == []
