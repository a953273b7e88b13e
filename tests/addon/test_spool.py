import logging
import resource
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from addon.spool import IN_MEMORY, PIECE, Spool, check_length
from store.errors import RequestTooLarge, ServiceUnavailable

MIB = 1024 * 1024
TOO_LARGE = r"policies .* up to 10 bytes .* MAX_SPOOL"


def open_files() -> set[str]:
    """Return the files without a name that this process has open."""
    links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return {str(link) for link in links if str(link).endswith(" (deleted)")}


def filled(size: int, step: int = PIECE + 1) -> tuple[Spool, bytes]:
    """Return a spool, and the body that was written to it in pieces."""
    body = bytes(range(251)) * (size // 251 + 1)
    spool = Spool(size)
    for start in range(0, size, step):
        spool.write(body[start : min(start + step, size)])
    return spool, body[:size]


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, IN_MEMORY, IN_MEMORY + 1, 3 * MIB])
def test_a_body_can_be_read_any_number_of_times(size: int) -> None:
    spool, body = filled(size)
    first, second = spool.pieces(), spool.pieces()
    start = next(first, b"")
    assert b"".join(second) == body
    assert start + b"".join(first) == body
    assert all(len(piece) <= PIECE for piece in spool.pieces())
    assert spool.size == size
    spool.close()
    spool.close()


def test_a_large_body_is_in_a_file_without_a_name_until_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = open_files()
    small, _ = filled(IN_MEMORY)
    assert open_files() == before
    large, _ = filled(IN_MEMORY + 1)
    (file,) = open_files() - before
    assert file.startswith(f"{tmp_path}/")
    assert [*tmp_path.iterdir()] == []
    large.close()
    assert open_files() == before
    small.close()


@pytest.mark.parametrize("size", [10, 2 * MIB])
def test_a_body_that_is_closed_while_it_is_read_is_an_error_and_no_end(
    size: int, caplog: pytest.LogCaptureFixture
) -> None:
    spool, _ = filled(size)
    pieces = spool.pieces()
    if size > PIECE:
        next(pieces)
    spool.close()
    assert spool.is_closed
    with pytest.raises(ServiceUnavailable):
        next(pieces)
    assert caplog.records == []  # it is no fault of the file system


def test_a_body_that_is_too_large_is_refused_before_it_is_kept() -> None:
    spool = Spool(10)
    check_length(10, 10)
    spool.write(b"0123456789")
    with pytest.raises(RequestTooLarge, match=TOO_LARGE):
        spool.write(b"x")
    with pytest.raises(RequestTooLarge, match=TOO_LARGE):
        check_length(11, 10)
    assert b"".join(spool.pieces()) == b"0123456789"
    spool.close()


def write_all(spool: Spool) -> None:
    for _ in range(4 * MIB // PIECE):
        spool.write(bytes(PIECE))


@pytest.fixture
def full() -> Iterator[None]:
    """Let no file of this process grow beyond 2 MiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("full")
def test_a_file_that_cannot_grow_is_an_error_that_the_client_gets(caplog: pytest.LogCaptureFixture) -> None:
    before, spool = open_files(), Spool(4 * MIB)
    with pytest.raises(ServiceUnavailable, match="cannot keep the request's body"):
        write_all(spool)
    assert spool.size <= 2 * MIB
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == [
        "a request's body cannot be kept: File too large"
    ]
    spool.close()
    assert open_files() == before


def test_a_file_that_was_cut_is_an_error_and_no_end() -> None:
    spool, _ = filled(2 * MIB)
    spool._file.truncate(MIB)  # noqa: SLF001 - no other process can, as it has no name
    with pytest.raises(ServiceUnavailable):
        b"".join(spool.pieces())
    spool.close()


def test_a_part_of_the_file_system_stays_free(monkeypatch: pytest.MonkeyPatch) -> None:
    free = [100]
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=1000, free=free[0]))
    spool = Spool(10 * MIB)
    spool.write(bytes(2 * MIB))
    free[0] = 49
    with pytest.raises(ServiceUnavailable):
        spool.write(b"x")
    assert spool.size == 2 * MIB
    spool.close()


def test_a_body_in_memory_needs_no_room_on_the_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=1000, free=0))
    spool = Spool(10 * MIB)
    spool.write(bytes(IN_MEMORY))
    spool.close()
