import h11
import pytest
from h11._receivebuffer import ReceiveBuffer

from addon.layers.chunks import MAX_BETWEEN, Chunks


def read(data: bytes, *, of_answer: bool, step: int) -> tuple[bytes, bytes | None]:
    """Read a body that comes in pieces; return it, and what is left after its end (None before that)."""
    chunks, buf, body = Chunks(of_answer=of_answer), ReceiveBuffer(), b""
    for start in range(0, len(data), step):
        buf += data[start : start + step]
        while event := chunks(buf):
            if isinstance(event, h11.EndOfMessage):
                return body, bytes(buf) + data[start + step :]
            body += event.data
    return body, None


steps = pytest.mark.parametrize("step", [1, 2, 1000])
sides = pytest.mark.parametrize("of_answer", [False, True])


@steps
@sides
@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"A\r\n0123456789\r\n000\r\n\r\n", b"0123456789"),
        (b"00a\r\n0123456789\r\n1\r\n\n\r\n0\r\n\r\n", b"0123456789\n"),
        (b'2;a;b=c;d="e;\\"f" ; g = h\r\n\r\n\r\n0;i\r\n\r\n', b"\r\n"),
    ],
)
def test_a_body_in_any_pieces(of_answer: bool, data: bytes, body: bytes, step: int) -> None:
    assert read(data + b"more", of_answer=of_answer, step=step) == (body, b"more")
    assert read(data[:-1], of_answer=of_answer, step=step) == (body, None)


@steps
@sides
@pytest.mark.parametrize(
    "data",
    [
        *(
            b"\r\n",
            b"x\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b"1_0\r\n",
            b" 1\r\n",
            b"1\n\r\n",
            b"1\r\r\n",
            b"1 x\r\n",
        ),
        b"1 x\r\n",
        *(b"1;a\nb\r\n", b"1;a\rb\r\n", b"1\x0b\r\n", b"1\0\r\n", b"1\x85\r\n", b"1" * 17 + b"\r\n", b"\xd9\xa1\r\n"),
        *(b"1\r\nab\r\n", b"1\r\na\n\r", b"1\r\na\n0", b"1\r\na\r\n\r\n", b"1\r\na0\r\n\r\n"),
    ],
)
def test_what_some_read_otherwise_is_no_chunk(of_answer: bool, data: bytes, step: int) -> None:
    with pytest.raises(h11.ProtocolError):
        read(data, of_answer=of_answer, step=step)


@steps
@pytest.mark.parametrize("size", [b"5 ", b"5\t ", b"5;", b"5;a;;=", b'5;a="'])
def test_only_an_upstream_may_be_careless_behind_a_size(size: bytes, step: int) -> None:
    data = size + b"\r\nhello\r\n0\r\n\r\n"
    assert read(data, of_answer=True, step=step) == (b"hello", b"")
    with pytest.raises(h11.ProtocolError):
        read(data, of_answer=False, step=step)


@steps
def test_trailers_are_refused_or_dropped(step: int) -> None:
    data = b"0\r\nX: y\r\nZ\r\n\r\n"
    assert read(data, of_answer=True, step=step) == (b"", b"")
    with pytest.raises(h11.ProtocolError, match="trailers"):
        read(data, of_answer=False, step=step)


@sides
@pytest.mark.parametrize("begun", [b"1;a=", b"0\r\nX: "])
def test_what_stands_between_chunks_has_an_end(of_answer: bool, begun: bytes) -> None:
    with pytest.raises(h11.ProtocolError, match="too much"):
        read(begun + b"a" * MAX_BETWEEN, of_answer=of_answer, step=1000)


def test_a_body_does_not_end_with_its_connection() -> None:
    with pytest.raises(h11.ProtocolError):
        Chunks(of_answer=True).read_eof()
