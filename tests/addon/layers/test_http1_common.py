import h11
import pytest
from h11._receivebuffer import ReceiveBuffer

from addon.layers.http1_common import MAX_BETWEEN, ChunkReader


def read(data: bytes, *, of_response: bool, step: int) -> tuple[bytes, bytes | None]:
    """Read a body that comes in pieces; return it, and the data after its end (None before that)."""
    reader, buf, body = ChunkReader(of_response=of_response), ReceiveBuffer(), b""
    for start in range(0, len(data), step):
        buf += data[start : start + step]
        while event := reader(buf):
            if isinstance(event, h11.EndOfMessage):
                return body, bytes(buf) + data[start + step :]
            body += event.data
    return body, None


steps = pytest.mark.parametrize("step", [1, 2, 1000])
sides = pytest.mark.parametrize("of_response", [False, True])


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
def test_reads_a_body_that_comes_in_any_pieces(of_response: bool, data: bytes, body: bytes, step: int) -> None:
    assert read(data + b"more", of_response=of_response, step=step) == (body, b"more")
    assert read(data[:-1], of_response=of_response, step=step) == (body, None)


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
def test_rejects_chunks_that_other_parsers_accept(of_response: bool, data: bytes, step: int) -> None:
    with pytest.raises(h11.ProtocolError):
        read(data, of_response=of_response, step=step)


@steps
@pytest.mark.parametrize("size", [b"5 ", b"5\t ", b"5;", b"5;a;;=", b'5;a="'])
def test_accepts_malformed_extensions_from_upstreams_only(size: bytes, step: int) -> None:
    data = size + b"\r\nhello\r\n0\r\n\r\n"
    assert read(data, of_response=True, step=step) == (b"hello", b"")
    with pytest.raises(h11.ProtocolError):
        read(data, of_response=False, step=step)


@steps
def test_rejects_trailers_of_requests_and_drops_those_of_responses(step: int) -> None:
    data = b"0\r\nX: y\r\nZ\r\n\r\n"
    assert read(data, of_response=True, step=step) == (b"", b"")
    with pytest.raises(h11.ProtocolError, match="trailers"):
        read(data, of_response=False, step=step)


@sides
@pytest.mark.parametrize("begun", [b"1;a=", b"0\r\nX: "])
def test_rejects_endless_extensions_and_trailers(of_response: bool, begun: bytes) -> None:
    with pytest.raises(h11.ProtocolError, match="too much"):
        read(begun + b"a" * MAX_BETWEEN, of_response=of_response, step=1000)


def test_rejects_a_body_that_ends_with_its_connection() -> None:
    with pytest.raises(h11.ProtocolError):
        ChunkReader(of_response=True).read_eof()
