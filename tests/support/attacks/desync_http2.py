"""The cases of `desync.py` over HTTP/2: data that would be another request once it is written in HTTP/1.

Rewritten after "HTTP/2: The Sequel is Always Worse" and PortSwigger/http-request-smuggler (H2.CL, H2.TE, H2.0, line
ends in names, values and pseudo-headers), hahwul/smugglex, and the HTTP Garden's trophies of HTTP/2.
"""

from collections.abc import Iterator
from typing import NamedTuple

from support.attacks.desync import AFTER_CHUNKS, HIDDEN, TOKEN, printable


class Http2Case(NamedTuple):
    """A request over HTTP/2: its headers in order, and the pieces of its body, if it has one."""

    name: str
    headers: tuple[tuple[bytes, bytes], ...]
    pieces: tuple[bytes, ...] = ()


def http2(
    *more: tuple[bytes, bytes], method: bytes = b"POST", path: bytes = b"/v1/outer", **replaced: bytes
) -> tuple[tuple[bytes, bytes], ...]:
    """Write a request's headers, without tidying them."""
    pseudo = {b":method": method, b":scheme": b"https", b":authority": b"proxy", b":path": path}
    pseudo |= {b":" + name.encode(): value for name, value in replaced.items()}
    return (*pseudo.items(), (b"authorization", f"Bearer {TOKEN}".encode()), *more)


def http2_cases() -> Iterator[Http2Case]:
    """Return every case over HTTP/2: data that would be another request once it is written in HTTP/1."""
    yield from _http2_bodies()
    yield from _http2_fields()
    yield from _http2_pseudo_headers()


def _http2_bodies() -> Iterator[Http2Case]:
    """H2.CL, H2.TE and H2.0: frames say how long a body is, and headers say otherwise, or nothing."""
    sized = b"%d" % len(HIDDEN)
    for method in (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE"):
        verb = method.decode()
        yield Http2Case(f"{verb} with a body of no length", http2(method=method), (HIDDEN,))
        yield Http2Case(f"{verb} with a body in pieces", http2(method=method), (HIDDEN[:5], HIDDEN[5:]))
        yield Http2Case(f"{verb} with an empty body", http2(method=method), (b"",))
        yield Http2Case(f"{verb} with a length", http2((b"content-length", sized), method=method), (HIDDEN,))
        for length in (b"0", b"1", sized + b"0", b"2000000", b"4"):
            headers = http2((b"content-length", length), method=method)
            yield Http2Case(f"{verb} of {length.decode()}, longer", headers, (HIDDEN,))
            yield Http2Case(f"{verb} of {length.decode()}, none", headers)
            yield Http2Case(f"{verb} of {length.decode()}, empty", headers, (b"",))
    for length in (
        b"+5",
        b"-5",
        b"05",
        b"5 ",
        b" 5",
        b"5\r\n",
        b"5\n",
        b"0x5",
        b"5,5",
        b"",
        b"5_0",
        b"\xd9\xa5",
        b"x",
        b"5\0",
    ):
        yield Http2Case(f"length {printable(length)}", http2((b"content-length", length)), (b"hello",))
        yield Http2Case(f"length {printable(length)}, none", http2((b"content-length", length)))
    for first, second in ((b"5", b"0"), (b"0", b"5"), (b"5", b"5"), (b"5", b"6")):
        headers = http2((b"content-length", first), (b"content-length", second))
        yield Http2Case(f"lengths {first.decode()} and {second.decode()}", headers, (b"hello",))
    for name in (b"transfer-encoding", b"Transfer-Encoding", b"transfer-encoding ", b"te", b"transfer_encoding"):
        for value in (b"chunked", b"identity", b"trailers", b"trailers, chunked", b"x\r\ntransfer-encoding: chunked"):
            headers = http2((name, value))
            yield Http2Case(f"{printable(name)} {printable(value)}", headers, (AFTER_CHUNKS,))
            yield Http2Case(f"{printable(name)} {printable(value)}, none", headers)


def _http2_fields() -> Iterator[Http2Case]:
    """Names and values that hold more headers, or a whole request."""
    breaks = (b"\r\n", b"\n", b"\r", b"\0", b"\x85", b"\r\n ", b"\n\n")
    for end in breaks:
        for hidden in (b"transfer-encoding: chunked", b"content-length: 5", b"x: y", end + HIDDEN):
            value = b"b" + end + hidden
            yield Http2Case(f"value {printable(value)[:50]}", http2((b"foo", value)), (AFTER_CHUNKS,))
            name = b"foo: b" + end + hidden.partition(b":")[0]
            yield Http2Case(f"name {printable(name)[:50]}", http2((name, b"chunked")), (AFTER_CHUNKS,))
        yield Http2Case(f"value begins with {printable(end)}", http2((b"foo", end + b"b")))
        yield Http2Case(f"value ends with {printable(end)}", http2((b"foo", b"b" + end)))
    for name in (
        b"",
        b":",
        b" ",
        b"a b",
        b"a:b",
        b"FOO",
        b":foo",
        b"foo:",
        b" foo",
        b"foo\t",
        b"\xe9",
        b"f\x7f",
        b"transfer-encoding:chunked",
    ):
        yield Http2Case(f"name {printable(name)!r}", http2((name, b"chunked")), (AFTER_CHUNKS,))
    for name, value in [
        *((b"connection", b"close"), (b"connection", b"content-length"), (b"keep-alive", b"1"), (b"upgrade", b"h2c")),
        *((b"proxy-connection", b"keep-alive"), (b"http2-settings", b"AAMA"), (b"host", b"other"), (b"host", b"proxy")),
        *((b"host", b"a\r\nx: y"), (b"expect", b"100-continue"), (b"expect", b"y 100-continue"), (b"trailer", b"x")),
    ]:
        yield Http2Case(f"{printable(name)} {printable(value)}", http2((name, value)), (HIDDEN,))
        yield Http2Case(f"{printable(name)} {printable(value)}, none", http2((name, value), method=b"GET"))


def _http2_pseudo_headers() -> Iterator[Http2Case]:
    """Request lines in the pseudo-headers that HTTP/2 sends instead."""
    for end in (b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"\x0b", b"\x85"):
        tail = b" HTTP/1.1" + end + b"transfer-encoding: chunked" + end + b"x: x"
        yield Http2Case(f"path {printable(end)}", http2(path=b"/v1/outer" + tail), (AFTER_CHUNKS,))
        yield Http2Case(f"method {printable(end)}", http2(method=b"POST /v1/outer" + tail), (AFTER_CHUNKS,))
        yield Http2Case(f"scheme {printable(end)}", http2(scheme=b"https://proxy/v1/outer" + tail), (AFTER_CHUNKS,))
        yield Http2Case(f"authority {printable(end)}", http2(authority=b"proxy" + tail), (AFTER_CHUNKS,))
        yield Http2Case(f"a blank {printable(end)} in the path", http2(path=b"/v1/ou" + end + b"ter", method=b"GET"))
    for pseudo, values in {
        "path": (
            b"",
            b"*",
            b"v1/outer",
            b"http://other/v1/outer",
            b"/v1/outer#x",
            b"//v1/outer",
            b"/v1/../outer",
            b"/v1/\xe9",
        ),
        "method": (b"", b"CONNECT", b"PRI", b"get", b"GET ", b" GET", b"TRACE", b"G\xe9T"),
        "scheme": (b"", b"http", b"ftp", b"HTTPS", b"https ", b"javascript"),
        "authority": (b"", b"other", b"a b", b"user@proxy", b"a/b", b"proxy:1", b"[::1]", b"a,b", b"\xe9", b"a#b"),
    }.items():
        for value in values:
            yield Http2Case(f":{pseudo} {printable(value)!r}", http2(**{"method": b"GET", pseudo: value}))
    for name in (b":method", b":path", b":scheme", b":authority", b":status", b":protocol", b":foo"):
        yield Http2Case(f"another {printable(name)}", http2((name, b"/v1/smuggled"), method=b"GET"))
        left = tuple(field for field in http2(method=b"GET") if field[0] != name)
        yield Http2Case(f"no {printable(name)}", left)
        yield Http2Case(f"{printable(name)} behind", (*left, (name, b"GET")))
