import asyncio
import itertools
import logging
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.gateway.requests import make_request, make_response

from addon import streaming
from addon.streaming import EventTap, Tap

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


@pytest.mark.parametrize(
    ("headers", "can"),
    [
        ([("Content-Type", "text/event-stream")], True),
        ([("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")], True),
        ([("Content-Type", "text/event-stream"), ("Content-Length", "5")], False),
        ([("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip")], False),
        ([("Content-Type", "application/x-ndjson")], False),
    ],
)
def test_a_response_can_end_between_events_where_neither_a_length_nor_a_coding_says_how_it_ends(
    headers: list[tuple[str | bytes, str | bytes]], can: bool
) -> None:
    assert streaming.can_end_between_events(make_response(*headers)) is can


# Streams that are ended between two events.

LAST = b"data: the last one\n\n"
PATIENCE = 0.01

LINE_ENDS = (b"\n", b"\r\n", b"\r")
LINES = (b"data: a", b'data: {"b": "\\n\\n"}', b": a comment", b"event: c", b"", b"id")


def boundaries(stream: bytes) -> set[int]:
    """Return the places at which an event ends, and that of the stream's beginning.

    An event that ends with CRLF also ends before that LF, as it cannot be known yet that there is one.
    """
    found, line, place = {0}, 0, 0
    while place < len(stream):
        if stream[place] not in b"\r\n":
            place += 1
            continue
        is_empty = place == line
        size = 2 if stream[place : place + 2] == b"\r\n" else 1
        if is_empty:
            found |= {place + 1, place + size}
        line = place = place + size
    return found


def test_the_places_at_which_events_end() -> None:
    assert boundaries(b"") == {0}
    assert boundaries(b"data: a\n\ndata: b\n") == {0, 9}
    assert boundaries(b"a\r\n\r\nb\r\n") == {0, 4, 5}
    assert boundaries(b"a\r\rb\n\r") == {0, 3, 6}
    assert boundaries(b"a\r\nb\r\n") == {0}


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Return a stream whose lines end in any way, and that may end anywhere."""
    lines = draw(st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(LINE_ENDS)), max_size=12))
    return b"".join(itertools.chain.from_iterable(lines)) + draw(st.sampled_from((b"", b"data: cut")))


@st.composite
def in_pieces(draw: st.DrawFn) -> list[bytes]:
    """Return a stream in pieces of any size."""
    stream = draw(streams())
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(stream) - 1)), max_size=12)))
    return [piece for piece in (stream[a:b] for a, b in itertools.pairwise([0, *cuts, len(stream)])) if piece]


class Ended(NamedTuple):
    """A stream that was ended."""

    passed: bytes
    """All that was passed on, without the last event."""
    stops: Sequence[bytes | None]
    """The argument of each call of `stop`."""


def feed(tap: Tap, pieces: Sequence[bytes]) -> bytes:
    passed = (tap(piece) for piece in pieces)
    return b"".join(each if isinstance(each, bytes) else b"".join(each) for each in passed)


def ended(pieces: Sequence[bytes], place: int, *, wait: float = 0.0) -> Ended:
    """Pass pieces on, and end the stream before one of them, `wait` seconds before that one."""

    async def main() -> Ended:
        tap, stops = EventTap(), list[bytes | None]()
        passed = feed(tap, pieces[:place])
        tap.end(LAST, stops.append, PATIENCE)
        assert stops == []  # soon, and not at once
        await asyncio.sleep(wait)
        passed += feed(tap, pieces[place:])
        await asyncio.sleep(3 * PATIENCE)
        assert feed(tap, [b"data: later\n\n"]) == b""
        await asyncio.sleep(0)
        return Ended(passed, stops)

    return asyncio.run(main())


@given(in_pieces())
def test_a_stream_that_is_not_ended_passes_unchanged(pieces: list[bytes]) -> None:
    tap = EventTap()
    assert [tap(piece) for piece in (*pieces, b"")] == [*pieces, b""]


@given(in_pieces(), st.data())
def test_an_ended_stream_ends_with_the_event_that_is_under_way(pieces: list[bytes], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(pieces)))
    stream, before = b"".join(pieces), len(b"".join(pieces[:place]))
    ends = [end for end in sorted(boundaries(stream)) if end >= before]
    found = ended(pieces, place)
    borders = {*itertools.accumulate(map(len, pieces))}
    if ends and stream[ends[0] - 1 : ends[0] + 1] == b"\r\n" and ends[0] not in borders:
        ends = ends[1:]  # the LF is in the same piece
    if ends:
        assert found == Ended(stream[: ends[0]], [LAST])
    else:
        assert found == Ended(stream, [None])


@given(in_pieces(), st.data())
def test_an_event_that_does_not_end_in_time_ends_the_stream_without_a_last_one(
    pieces: list[bytes], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(pieces)))
    before = b"".join(pieces[:place])
    assume(len(before) not in boundaries(b"".join(pieces)))
    assert ended(pieces, place, wait=3 * PATIENCE) == Ended(before, [None])


@pytest.mark.parametrize(
    ("pieces", "place", "passed"),
    [
        ([b"data: a\n\n"], 0, b""),
        ([b"data: a\r\n\r", b"\ndata: b\n\n"], 1, b"data: a\r\n\r"),
        ([b"data: a\r", b"\n\r\ndata: b\n\n"], 1, b"data: a\r\n\r\n"),
        ([b"data: a\r", b"\n", b"\r", b"\n"], 1, b"data: a\r\n\r"),
        ([b"data: a\n\n", b"data: b\n\n"], 1, b"data: a\n\n"),
        ([b"data: a", b"\n\ndata: b\n\ndata"], 1, b"data: a\n\n"),
        ([b": a comment\n", b"\n", b"data: b\n\n"], 1, b": a comment\n\n"),
    ],
    ids=["before the first", "in a CRLF", "before a LF", "all single", "between two", "within one", "a comment"],
)
def test_places_of_an_end(pieces: list[bytes], place: int, passed: bytes) -> None:
    assert ended(pieces, place) == Ended(passed, [LAST])


@pytest.mark.parametrize(
    ("pieces", "passed"),
    [
        ([b"data: 1\n\n", b"data: 2\n\nda"], b"data: 1\n\n"),
        ([b"data: 1\n\nda", b"ta: 2\n\ndata: 3"], b"data: 1\n\ndata: 2\n\n"),
        ([b"data: 2"], b""),
    ],
    ids=["between events", "within an event", "before the first"],
)
def test_a_watcher_that_ends_a_stream_ends_it_before_the_piece_or_within(pieces: list[bytes], passed: bytes) -> None:
    """A budget is found to be used up by the piece that shows that."""

    async def main() -> None:
        stops = list[bytes | None]()

        def watch(data: bytes) -> None:
            if b": 2" in data:
                tap.end(LAST, stops.append, PATIENCE)

        tap = EventTap(watch)
        assert feed(tap, pieces) == passed
        await asyncio.sleep(0)
        assert stops == [LAST]

    asyncio.run(main())


def test_the_last_event_takes_the_place_of_the_rest_where_the_body_ends_before_the_stop() -> None:
    async def main() -> None:
        tap, stops = EventTap(), list[bytes | None]()
        feed(tap, [b"data: a\n\nda"])
        tap.end(LAST, stops.append, PATIENCE)
        assert feed(tap, [b"ta: b\n\ndata: c\n\n", b""]) == b"ta: b\n\n" + LAST
        assert feed(tap, [b""]) == b""
        await asyncio.sleep(0)
        assert stops == [b""]  # it is sent already

    asyncio.run(main())


def test_watchers_see_nothing_after_the_end() -> None:
    async def main() -> None:
        seen: list[bytes] = []
        tap = EventTap(seen.append)
        tap.end(LAST, lambda _: None, PATIENCE)
        feed(tap, [b"data: a\n\n", b""])
        assert seen == []

    asyncio.run(main())
