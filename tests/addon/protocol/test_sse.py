import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.load.effort import passes

from addon.protocol.head_and_tail import EDGE
from addon.protocol.sse import Decoder, Event

LINES = st.sampled_from(
    [
        *("data: one", "data:two", "data", "data:", "data:  blanks ", "event: named", "event", ": comment", ":"),
        *(
            "id: 7",
            "retry: 10",
            "unknown: x",
            "databases: x",
            "data: \u2028 ends \x85 no \x0b line \x0c",
            "data: €",
            "",
        ),
    ]
)
LINE_ENDS = st.sampled_from(["\n", "\r", "\r\n"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(st.tuples(LINES, LINE_ENDS), max_size=20))
    bom = draw(st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb", b"\xef\xbb\xbf\xef\xbb\xbf"]))
    return bom + "".join(line + end for line, end in lines).encode() + draw(st.sampled_from([b"", b"data: cut"]))


@st.composite
def cuts(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    return [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]


def by_the_standard(stream: bytes) -> list[Event]:
    """Decode a whole stream, in the words of the standard: slow and plain."""
    events: list[Event] = []
    data, kind = "", ""
    for line in re.split("\r\n|\r|\n", stream.decode(errors="surrogateescape").removeprefix("\ufeff"))[:-1]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                events.append(Event((kind or "message").encode(), data.removesuffix("\n").encode()))
            data, kind = "", ""
        elif name == "data":
            data += f"{value}\n"
        elif name == "event":
            kind = value
    return events


def fed(chunks: list[bytes], **options: int) -> list[Event]:
    decoder = Decoder(**options)
    return [event for chunk in chunks for event in decoder.feed(chunk)]


@given(st.data())
def test_chunks_of_any_size_give_the_events_of_the_standard(data: st.DataObject) -> None:
    stream = data.draw(streams())
    assert fed(data.draw(cuts(stream))) == by_the_standard(stream)


@given(st.data(), st.integers(0, 40))
def test_chunks_of_any_size_cut_the_same_large_events(data: st.DataObject, max_event: int) -> None:
    stream = data.draw(streams())
    assert fed(data.draw(cuts(stream)), max_event=max_event) == fed([stream], max_event=max_event)


@given(st.lists(st.binary(max_size=20)))
def test_no_bytes_raise(chunks: list[bytes]) -> None:
    fed(chunks)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_an_event_is_complete_with_its_empty_line(end: str) -> None:
    assert fed([f"data: x{end}{end}".encode()]) == [Event(b"message", b"x")]


def test_an_event_that_the_end_of_the_stream_cuts_is_dropped() -> None:
    assert fed([b"data: whole\n\ndata: cut\n"]) == [Event(b"message", b"whole")]


@pytest.mark.parametrize("step", [1, 7, 10**6])
@pytest.mark.parametrize("length", [200, 50_000])
def test_of_a_large_event_the_start_and_the_end_are_kept(step: int, length: int) -> None:
    decoder = Decoder(max_event=100)
    stream = b"event: large\ndata: abc" + b"x" * length + b"\ndata: yz\n\ndata: small\n\n"
    chunks = [stream[start : start + step] for start in range(0, len(stream), step)]
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    kept = b"abc" + b"x" * 47 + b"x" * 47 + b"\nyz"
    assert events == [Event(b"large", kept, is_cut=True), Event(b"message", b"small")]


@pytest.mark.parametrize("step", [1, 10**6])
def test_a_long_line_of_another_field_is_ignored(step: int) -> None:
    stream = b"event: " + b"x" * 5000 + b"\n: " + b"y" * 5000 + b"\ndata: z\n\n"
    chunks = [stream[start : start + step] for start in range(0, len(stream), step)]
    assert fed(chunks) == [Event(b"message", b"z")]


def test_an_event_of_64_mebibytes_is_read_in_little_memory() -> None:
    decoder, chunk = Decoder(), b"x" * 65536
    decoder.feed(b"data: ")
    tracemalloc.start()
    try:
        for _ in range(1024):
            decoder.feed(chunk)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10 * 2**20
    (event,) = decoder.feed(b"\n\n")
    assert (len(event.data), event.is_cut) == (2 * EDGE, True)


@pytest.mark.parametrize("chunk", [b"data: " + b"x" * 1000, b"data: " + b"x" * 1000 + b"\n"], ids=["line", "lines"])
def test_the_memory_of_an_endless_event_is_bounded(chunk: bytes) -> None:
    decoder = Decoder(max_event=10_000)
    tracemalloc.start()
    try:
        for _ in range(1000):
            assert decoder.feed(chunk) == []
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 20_000


def test_a_mebibyte_in_small_chunks_is_decoded_fast() -> None:
    chunk = b'data: {"choices": [{"delta": {"content": " word"}}], "object": "chat.completion.chunk"}\n\n'
    decoder = Decoder()

    def feed() -> None:
        for _ in range(2**20 // len(chunk)):
            decoder.feed(chunk)

    assert passes(feed) < 20  # 5


def test_a_line_in_small_pieces_takes_no_more_than_its_size() -> None:
    decoder, piece = Decoder(), bytearray(b"xy")
    decoder.feed(b"data: ")
    tracemalloc.start()
    try:
        for _ in range(50_000):
            decoder.feed(bytes(piece))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 150_000
    assert decoder.feed(b"\n\n") == [Event(b"message", b"xy" * 50_000)]
