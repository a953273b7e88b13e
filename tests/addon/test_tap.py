import logging

import pytest

from addon.tap import Tap


def test_each_piece_passes_and_is_shown_to_all() -> None:
    one: list[bytes] = []
    other: list[bytes] = []
    tap = Tap(one.append, other.append)
    assert [tap(piece) for piece in (b"a", b"bc", b"")] == [b"a", b"bc", b""]
    assert one == other == [b"a", b"bc", b""]


def test_a_watcher_that_fails_is_shown_nothing_more_and_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[bytes] = []

    def fail(data: bytes) -> None:
        raise ValueError(data)

    tap = Tap(fail, seen.append)
    assert [tap(piece) for piece in (b"a", b"b")] == [b"a", b"b"]
    assert seen == [b"a", b"b"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
