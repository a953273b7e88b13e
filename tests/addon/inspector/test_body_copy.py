import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.test import tutils

from addon.inspector import body_copy
from addon.inspector.body_copy import BodyCopy
from addon.streaming import Tap


@given(st.lists(st.binary(max_size=10)), st.integers(1, 40))
def test_every_piece_passes_unchanged_and_the_first_bytes_are_kept(pieces: list[bytes], limit: int) -> None:
    copy = BodyCopy(limit)
    assert [*map(Tap(copy), [*pieces, b""])] == [*pieces, b""]
    body = b"".join(pieces)
    assert (copy.kept, copy.passed) == (body[:limit], len(body))


@pytest.mark.parametrize(("pieces", "passed"), [([b"abc", b"d"], None), ([b"abc", b"defgh"], 8), ([], None)])
def test_an_ended_body_is_whole_unless_it_exceeded_the_limit(pieces: list[bytes], passed: int | None) -> None:
    message = tutils.tresp(content=None)
    message.stream = Tap()
    body_copy.begin(message, 4)
    for piece in pieces:
        assert callable(message.stream)
        message.stream(piece)
    assert body_copy.put_on(message, ended=True) == passed
    assert message.raw_content == b"".join(pieces)[:4]
    assert not isinstance(message.stream, Tap)


def test_copying_continues_until_the_body_has_ended() -> None:
    message = tutils.treq(content=None)
    message.stream = Tap()
    body_copy.begin(message, 10)
    copy = body_copy.of(message)
    assert copy is not None
    copy(b"abc")
    assert body_copy.put_on(message, ended=False) == 3
    assert message.raw_content == b"abc"
    copy(b"def")
    assert body_copy.put_on(message, ended=True) is None
    assert message.raw_content == b"abcdef"


@pytest.mark.parametrize(("stream", "limit"), [(False, 10), (Tap(), 0), (len, 10)], ids=["whole", "off", "callable"])
def test_a_body_without_a_tap_is_unchanged(stream: object, limit: int) -> None:
    message = tutils.treq(content=b"whole")
    message.stream = stream  # type: ignore[assignment]
    body_copy.begin(message, limit)
    assert message.stream is stream
    assert body_copy.put_on(message, ended=True) is None
    assert message.raw_content == b"whole"
