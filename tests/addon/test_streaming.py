import logging

import pytest
from support.gateway.requests import make_request, make_response

from addon import streaming
from addon.streaming import Tap

LARGE = str(streaming.LARGE)
LARGER = str(streaming.LARGE + 1)


@pytest.mark.parametrize(
    ("headers", "streamed"),
    [
        ([], False),
        ([("Content-Length", "0")], False),
        ([("Content-Length", LARGE)], False),
        ([("Content-Length", LARGER)], True),
        ([("Content-Length", "nonsense")], True),
        ([("Content-Length", "-1")], True),
        ([("Content-Length", "²")], True),
        ([("Transfer-Encoding", "chunked")], True),
    ],
)
def test_an_upload_is_streamed_when_it_is_large_or_of_unknown_length(
    headers: list[tuple[str | bytes, str | bytes]], streamed: bool
) -> None:
    assert streaming.is_streamed_upload(make_request(*headers)) is streamed


def test_an_http2_upload_may_have_no_length() -> None:
    assert streaming.is_streamed_upload(make_request(http_version="HTTP/2.0"))
    assert not streaming.is_streamed_upload(make_request(("content-length", "2"), http_version="HTTP/2.0"))


@pytest.mark.parametrize(
    ("headers", "streamed"),
    [
        ([("Content-Length", "0")], False),
        ([("Content-Length", LARGE)], False),
        ([("Content-Length", LARGER)], True),
        ([("Content-Length", "nonsense")], True),
        ([], True),
        ([("Transfer-Encoding", "chunked")], True),
        ([("Content-Type", "text/event-stream"), ("Content-Length", "5")], True),
        ([("Content-Type", "Text/Event-Stream; charset=utf-8"), ("Content-Length", "5")], True),
        ([("Content-Type", "application/json"), ("Content-Length", "5")], False),
    ],
)
def test_a_response_is_streamed_unless_it_is_a_small_document(
    headers: list[tuple[str | bytes, str | bytes]], streamed: bool
) -> None:
    assert streaming.is_streamed_response(make_response(*headers)) is streamed


def test_each_piece_passes_and_is_shown_to_all_watchers() -> None:
    one: list[bytes] = []
    other: list[bytes] = []
    tap = Tap(one.append, other.append)
    assert [tap(piece) for piece in (b"a", b"bc", b"")] == [b"a", b"bc", b""]
    assert one == other == [b"a", b"bc", b""]


def test_a_watcher_that_fails_is_removed_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[bytes] = []

    def fail(data: bytes) -> None:
        raise ValueError(data)

    tap = Tap(fail, seen.append)
    assert [tap(piece) for piece in (b"a", b"b")] == [b"a", b"b"]
    assert seen == [b"a", b"b"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
