"""Requests that make a proxy and its upstream disagree about where a request ends.

The cases are those of published collections, rewritten as generators:

- smuggler (defparam/smuggler, its lists "default", "exhaustive" and "doubles"): forms of Transfer-Encoding
- HTTP Request Smuggler (PortSwigger/http-request-smuggler) and the research papers behind it: CL.TE, TE.CL, TE.0, CL.0,
  0.CL, ways to hide a header from one side, chunks' line ends ("funky chunks"), Expect, splitting in HTTP/2
- smugglex (hahwul/smugglex): more of both, and of Content-Length
- the HTTP Garden's trophies (narfindustries/http-garden): what real servers and proxies got wrong
- llhttp's tests (nodejs/llhttp): what a strict parser refuses
- T-Reqs (bahruzjabiyev/t-reqs): one octet more, less or other in a request line
"""

from collections.abc import Iterator
from typing import NamedTuple

TOKEN = "the-token-of-the-client".center(36, "_")
"""Stands for the token, which has the same length."""

AUTHORIZATION = f"Authorization: Bearer {TOKEN}".encode()
INNOCENT = "/v1/innocent"
"""The target of the request that follows each case."""

CONTROLS = (*range(0x09), *range(0x0B, 0x20), 0x0A, 0x20, 0x7F)
HIGH = tuple(range(0x80, 0x100))


class Case(NamedTuple):
    """Bytes of a client, which the innocent request follows on the same connection."""

    kind: str
    name: str
    data: bytes


def request(*headers: bytes, line: bytes = b"POST /v1/outer HTTP/1.1", body: bytes = b"") -> bytes:
    """Write a request with a token, without tidying it."""
    return b"\r\n".join([line, b"Host: proxy", AUTHORIZATION, *headers, b"", body])


HIDDEN = request(line=b"GET /v1/smuggled HTTP/1.1")
FOLLOWS = request(line=b"GET /v1/innocent HTTP/1.1")
IN_CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
AFTER_CHUNKS = b"0\r\n\r\n" + HIDDEN
CHUNKED = b"Transfer-Encoding: chunked"


def length(body: bytes | int) -> bytes:
    return b"Content-Length: %d" % (body if isinstance(body, int) else len(body))


def all_cases() -> Iterator[Case]:
    """Return every case over HTTP/1."""
    for kind, cases in _KINDS.items():
        for number, (name, data) in enumerate(cases()):
            yield Case(kind, f"{number:03} {name}", data)


type _Cases = Iterator[tuple[str, bytes]]


def printable(data: bytes) -> str:
    """Name bytes so that they can stand in a test's name."""
    return data.decode("latin-1").encode("unicode_escape").decode()


def _coding_lines() -> Iterator[bytes]:
    """Lines that some servers take for `Transfer-Encoding: chunked`, and some do not."""
    yield CHUNKED
    for before, colon, value in [
        (b"Transfer-Encoding", b":", b"chunked"),
        (b"Transfer-Encoding", b":", b"  chunked"),
        (b"Transfer-Encoding", b":", b"\tchunked"),
        (b"Transfer-Encoding", b": ", b"chunked "),
        (b"Transfer-Encoding", b": ", b"chunked\t"),
        (b"Transfer-Encoding", b" : ", b"chunked"),
        (b"Transfer-Encoding", b"  : ", b"chunked"),
        (b"Transfer-Encoding", b"\t:\t", b"chunked"),
        (b"Transfer-Encoding", b" x: ", b"chunked"),
        (b"Transfer-Encoding", b"\r\n : ", b"chunked"),
        (b"Transfer-Encoding", b"\n : ", b"chunked"),
        (b"Transfer-Encoding", b" ", b"chunked"),
        (b"Transfer-Encoding", b"=", b"chunked"),
        (b"Transfer-Encoding", b":: ", b"chunked"),
        (b" Transfer-Encoding", b": ", b"chunked"),
        (b"transfer-encoding", b": ", b"chunked"),
        (b"TRANSFER-ENCODING", b": ", b"CHUNKED"),
        (b"tRaNsFeR-eNcOdInG", b": ", b"cHuNkEd"),
        (b"Transfer_Encoding", b": ", b"chunked"),
        (b"Transfer Encoding", b": ", b"chunked"),
        (b"Transfer\\Encoding", b": ", b"chunked"),
        (b"Transfer-%45ncoding", b": ", b"chunked"),
        (b"Transfer\0Encoding", b": ", b"chunked"),
        (b"Transfer\xadEncoding", b": ", b"chunked"),
        (b"Transf\x82r-Encoding", b": ", b"chunked"),
        (b"Tra\rnsfer-Encoding", b": ", b"chunked"),
        (b"Transfer-\r\nEncoding", b": ", b"chunked"),
        (b"Transfer-Encoding\xc2\xa0", b": ", b"chunked"),
        (b"Content-Encoding", b": ", b"chunked"),
        (b"TE", b": ", b"chunked"),
        (b"X-Transfer-Encoding", b": ", b"chunked"),
        (b"Foo: bar\r\n Transfer-Encoding", b": ", b"chunked"),
        (b"Foo: bar\r\n\tTransfer-Encoding", b": ", b"chunked"),
        (b"Foo: bar\rTransfer-Encoding", b": ", b"chunked"),
        (b"Foo: bar\nTransfer-Encoding", b": ", b"chunked"),
        (b"Foo:\rTransfer-Encoding", b": ", b"chunked"),
        (b"Foo:\nTransfer-Encoding", b": ", b"chunked"),
        (b"Foo: bar\r\n\rTransfer-Encoding", b": ", b"chunked"),
        (b"Foo: bar\r\n\0Transfer-Encoding", b": ", b"chunked"),
        (b"Foo: bar\n\nTransfer-Encoding", b": ", b"chunked"),
        (b"Connection: Transfer-Encoding\r\nTransfer-Encoding", b": ", b"chunked"),
    ]:
        yield before + colon + value
    for value in [
        *(
            b"chunk",
            b"chunked1",
            b"chunkedchunked",
            b"xchunked",
            b"x chunked",
            b"chunked x",
            b"ch\x96nked",
            b"%63hunked",
        ),
        *(b'"chunked"', b"'chunked'", b"=?UTF-8?B?Y2h1bmtlZA==?=", b"chunked;q=1", b"chunked; a", b"(x)chunked", b""),
        *(b"identity", b"cow", b"gzip", b"deflate", b"compress", b"trailers", b"x-chunked", b"\xe2\x84\xaachunked"),
        *(b",chunked", b"chunked,", b", chunked", b"chunked,,", b",", b"chunked, chunked", b"chunked,chunked"),
        *(b"identity, chunked", b"chunked, identity", b"identity,chunked,identity", b"chunked , identity"),
        *(
            b"cow, chunked",
            b"chunked, cow",
            b"gzip, chunked",
            b"chunked, gzip",
            b"gzip;q=1, chunked",
            b"chun\xc4\xb7ed",
        ),
        *(b"\r\n chunked", b"\r\n\tchunked", b"\n chunked", b"\r chunked", b"\r\n \r\n chunked", b"chunked\r\n x"),
        *(
            b"chunked\r",
            b"chunked\n\x0b",
            b"chunked\r\n \x0b",
            b"\x0bchunked",
            b"\x0cchunked",
            b"chunked\0",
            b"\0chunked",
        ),
    ]:
        yield b"Transfer-Encoding: " + value
    for first, second in [
        *((b"chunked", b"chunked"), (b"chunked", b"identity"), (b"identity", b"chunked"), (b"cow", b"chunked")),
        *((b"chunked", b"cow"), (b"", b"chunked"), (b"chunked", b""), (b"gzip", b"chunked"), (b"chunked", b"gzip")),
    ]:
        yield b"Transfer-Encoding: %b\r\nTransfer-Encoding: %b" % (first, second)
        yield b"Transfer-Encoding: %b\r\nX: y\r\ntransfer-encoding: %b" % (first, second)


def _codings() -> _Cases:
    """CL.TE and TE.CL, with both headers in both orders, and TE alone (TE.0)."""
    for line in _coding_lines():
        yield f"CL.TE {printable(line)}", request(length(AFTER_CHUNKS), line, body=AFTER_CHUNKS)
        yield f"TE.CL {printable(line)}", request(line, length(IN_CHUNK.index(b"\r\n") + 2), body=IN_CHUNK)
        yield f"TE.0 {printable(line)}", request(line, body=IN_CHUNK)


def _coding_octets() -> _Cases:
    """Each octet before, behind, and on both sides of the colon of Transfer-Encoding; two of them, for some."""
    for octet in (*CONTROLS, *HIGH):
        one = bytes([octet])
        for place, line in [
            ("before", b"%bTransfer-Encoding: chunked" % one),
            ("at the name", b"Transfer-Encoding%b: chunked" % one),
            ("at the value", b"Transfer-Encoding:%bchunked" % one),
            ("behind", b"Transfer-Encoding: chunked%b" % one),
        ]:
            yield f"{place} {octet:02x}", request(length(AFTER_CHUNKS), line, body=AFTER_CHUNKS)
            if octet in CONTROLS or octet in {0x85, 0xA0, 0xFF}:
                yield f"{place} {octet:02x} alone", request(line, body=IN_CHUNK)
    for octet in (*CONTROLS, 0x85, 0xA0, 0xFF):
        before, name, value, behind = (places := [b"", b"", b"", b""])
        for first in range(4):
            for second in range(first + 1, 4):
                before, name, value, behind = (
                    bytes([octet]) if place in {first, second} else b"" for place in range(len(places))
                )
                line = b"%bTransfer-Encoding%b:%bchunked%b" % (before, name, value, behind)
                yield f"two {octet:02x} at {first}{second}", request(length(AFTER_CHUNKS), line, body=AFTER_CHUNKS)


def _lengths() -> _Cases:
    """Forms of Content-Length, alone (CL.0, 0.CL) and with chunks."""
    size = len(HIDDEN)
    values = [
        *(b"+%d", b"-%d", b"0%d", b"00%d", b"%d.0", b"%de0", b"0x%x", b"0o%d", b"%d_0", b"%d 0", b"%d,%d", b"%d, %d"),
        *(b"%d;a", b'"%d"', b"%d\0", b"\0%d", b"%d\x0b", b"\x0b%d", b"\x0c%d", b"%d\r", b"\xa0%d", b"%d\x85", b"%dx"),
        *(b"\r\n %d", b"\n %d", b"%d\r\n 0", b"(%d)", b"%d/1", b"1%d", b"0, %d", b"%d, 0", b"%d,", b",%d", b"%d %d"),
        *(b"\xd9\xa3", b"\xef\xbc\x91%d", b"", b" ", b"chunked", b"NaN", b"-0", b"+0", b"-1", b"1" * 400, b"9" * 19),
        *(b"18446744073709551616", b"18446744073709551617", b"4294967297", b"0" * 300 + b"%d", b"0%o"),
    ]
    for form in values:
        value = form % ((size,) * form.count(b"%"))
        yield f"CL {printable(value)[:60]}", request(b"Content-Length: " + value, body=HIDDEN)
        yield f"CL {printable(value)[:60]} and chunks", request(b"Content-Length: " + value, CHUNKED, body=AFTER_CHUNKS)
    for name in [
        *(b"Content-Length ", b" Content-Length", b"\tContent-Length", b"Content_Length", b"Content Length"),
        *(b"Content\rLength", b"Content-Length\0", b"Content-Length\x85", b"\0Content-Length", b"Content-Length\t"),
        *(b"Foo: x\rContent-Length", b"Foo: x\nContent-Length", b"Foo: x\r\n Content-Length", b"Content-\r\nLength"),
        *(b"content-length", b"CONTENT-LENGTH", b"X-Content-Length", b"Content-Length x", b"Content-%4cength"),
    ]:
        yield f"CL named {printable(name)}", request(b"%b: %d" % (name, size), body=HIDDEN)
        yield f"CL after {printable(name)}", request(b"%b: 0" % name, length(HIDDEN), body=HIDDEN)
        yield f"CL before {printable(name)}", request(length(0), b"%b: %d" % (name, size), body=HIDDEN)
    for one, other in [(0, size), (size, 0), (size, size), (size, 5), (0, 0), (5, size)]:
        yield f"CL {one} and {other}", request(length(one), length(other), body=HIDDEN)
    for first in (b"", b"+0", b"00", b"x"):
        line = b"Content-Length: " + first
        yield f"CL {printable(first)!r} before another", request(line, length(HIDDEN), body=HIDDEN)
        yield f"CL {printable(first)!r} after another", request(length(HIDDEN), line, body=HIDDEN)


def _quiet_lengths() -> _Cases:
    """CL.0 and 0.CL: a body where one side expects none, by the method, the path or the connection."""
    for method in (b"GET", b"HEAD", b"DELETE", b"POST", b"PUT", b"PATCH", b"OPTIONS", b"TRACE", b"get", b"GETS"):
        line = method + b" /v1/outer HTTP/1.1"
        yield f"{printable(method)} with a body", request(length(HIDDEN), line=line, body=HIDDEN)
        yield f"{printable(method)} with chunks", request(CHUNKED, line=line, body=IN_CHUNK)
        yield f"{printable(method)} without a length", request(line=line, body=HIDDEN)
        yield f"{printable(method)} of no length", request(length(0), line=line, body=HIDDEN)
    for path in (b"/health", b"/nowhere", b"/v1", b"/v1/../x", b"/v1//x", b"/v1/x#y", b"/v1/x?y"):
        yield f"{printable(path)} with a body", request(length(HIDDEN), line=b"POST %b HTTP/1.1" % path, body=HIDDEN)
        yield f"{printable(path)} with chunks", request(CHUNKED, line=b"POST %b HTTP/1.1" % path, body=IN_CHUNK)
    for options in [
        *(
            b"close",
            b"Close",
            b"CLOSE",
            b"close, keep-alive",
            b"keep-alive, close",
            b"keep-alive",
            b"x\r\nConnection: close",
        ),
        *(b"Content-Length", b"Transfer-Encoding", b"Content-Length, close", b"Host", b"Authorization", b"Expect"),
        *(b"close, Content-Length, Transfer-Encoding", b"Upgrade", b"upgrade, http2-settings", b",close", b"close;x"),
    ]:
        line = b"Connection: " + options
        yield f"Connection {printable(options)}", request(line, length(HIDDEN), body=HIDDEN)
        yield f"Connection {printable(options)} and chunks", request(line, CHUNKED, body=IN_CHUNK)
        yield f"Connection {printable(options)} without a body", request(line, line=b"GET /v1/outer HTTP/1.1")
        yield f"Connection {printable(options)} in 1.0", request(line, line=b"GET /v1/outer HTTP/1.0", body=HIDDEN)
    for upgrade in (b"h2c", b"websocket", b"HTTP/2.0", b"TLS/1.0"):
        headers = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + upgrade, b"HTTP2-Settings: AAMAAABk")
        yield f"Upgrade {printable(upgrade)}", request(*headers, length(HIDDEN), body=HIDDEN)
    yield "HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN


def _chunks() -> _Cases:
    """Chunks that end elsewhere for some servers: sizes, extensions, line ends, the last one, trailers."""
    size = b"%x" % len(HIDDEN)
    for form in [
        *(
            b"0x%b",
            b"0X%b",
            b"+%b",
            b"-%b",
            b"0_%b",
            b"_%b",
            b"%b_",
            b"0%b",
            b"000%b",
            b" %b",
            b"\t%b",
            b"%b ",
            b"%b\t",
        ),
        *(
            b"%b\0",
            b"\0%b",
            b"%b\x0b",
            b"%b\x0c",
            b"\x0b%b",
            b"%b\x85",
            b"\xa0%b",
            b"%bg",
            b"g%b",
            b"%b.0",
            b"%b,",
            b'"%b"',
        ),
        *(
            b"1%b",
            b"10000000000000000%b",
            b"100000000%b",
            b"0" * 30 + b"%b",
            b"0" * 14 + b"%b",
            b"-0x%b",
            b"%bh",
            b"#%b",
        ),
    ]:
        yield f"size {printable(form)}", request(CHUNKED, body=b"%b\r\n%b\r\n0\r\n\r\n" % (form % size, HIDDEN))
    for text in (
        b"",
        b"FFFFFFFFFFFFFFFF",
        b"-1",
        b"FFFFFFFFFFFFFFF0",
        b"8000000000000000",
        b"F" * 20,
        b"x",
        b"INVALID!!!",
    ):
        yield f"size {printable(text)}", request(CHUNKED, body=b"%b\r\n%b\r\n0\r\n\r\n" % (text, HIDDEN))
    for extension in [
        *(
            b";",
            b";a",
            b";a=b",
            b";a=b;c",
            b" ;a",
            b"; a",
            b" ; a = b",
            b';a="b"',
            b';a="b;c"',
            b';a="',
            b';a="b',
            b";=b",
        ),
        *(b";a\n", b";\n", b"\n;a", b";a\r", b"\r;a", b";a\rX", b";a\r\r", b"\r\r", b"\rX", b"\n", b";a\0", b";\x7f"),
        *(
            b" a",
            b",a",
            b";a\n\n",
            b';a="\n"',
            b';a="\r"',
            b';a="\\"',
            b";a=\xff",
            b";\xff",
            b";" + b"a" * 3000,
            b";;",
            b";a;",
        ),
    ]:
        body = b"%b%b\r\n%b\r\n0\r\n\r\n" % (size, extension, HIDDEN)
        yield f"extension {printable(extension)[:40]}", request(CHUNKED, body=body)
        yield (
            f"last extension {printable(extension)[:40]}",
            request(CHUNKED, body=b"0%b\r\n\r\n%b" % (extension, HIDDEN)),
        )
    for end in (b"\n", b"\r", b"", b"XX", b"\rX", b"\r\r", b"\n\r", b"\r\n\r\n", b"X\r\n", b"\0\0"):
        yield f"data's end {printable(end)}", request(CHUNKED, body=b"3\r\nabc%b0\r\n\r\n%b" % (end, HIDDEN))
        yield f"size's end {printable(end)}", request(CHUNKED, body=b"3%babc\r\n0\r\n\r\n%b" % (end, HIDDEN))
        yield f"last size's end {printable(end)}", request(CHUNKED, body=b"0%b\r\n%b" % (end, HIDDEN))
        yield f"last end {printable(end)}", request(CHUNKED, body=b"0\r\n%b%b" % (end, HIDDEN))
        spilled = b"%x;%b%b\r\n0\r\n\r\n" % (len(HIDDEN) + 1, end, HIDDEN)
        yield f"spilled {printable(end)}", request(CHUNKED, body=b"5\r\nAAAAA%b%b" % (end, spilled))
    for last in [
        *(b"00", b"000", b"0" * 16, b"0" * 25, b"0x0", b"-0", b"+0", b" 0", b"0 ", b"0\t", b"0_0", b"O", b"\xd9\xa0"),
    ]:
        yield f"last {printable(last)}", request(CHUNKED, body=b"3\r\nabc\r\n%b\r\n\r\n%b" % (last, HIDDEN))
    for trailer in [
        *(b"X: y", b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Host: evil", b"X", b":", b" X: y", b"X : y"),
        *(
            b"Authorization: Bearer x",
            b"X: y\n",
            b"X:GET /v1/smuggled HTTP/1.1",
            b"GET /v1/smuggled HTTP/1.1",
            b"X: \0",
        ),
        *(b"X: y\r\n z", b"\rX: y", b"XX"),
    ]:
        yield f"trailer {printable(trailer)}", request(CHUNKED, body=b"0\r\n%b\r\n\r\n%b" % (trailer, HIDDEN))
        yield (
            f"announced {printable(trailer)}",
            request(CHUNKED, b"Trailer: X", body=b"3\r\nabc\r\n0\r\n%b\r\n\r\n" % trailer),
        )
    yield "an empty line before the last", request(CHUNKED, body=b"3\r\nabc\r\n\r\n0\r\n\r\n" + HIDDEN)
    yield "an empty line for the last", request(CHUNKED, body=b"\r\n\r\n" + HIDDEN)
    yield "no last", request(CHUNKED, body=b"3\r\nabc\r\n\r\n" + HIDDEN)
    yield "an octet behind", request(CHUNKED, body=b"0\r\n\r\n\0")
    yield "many small", request(CHUNKED, body=b"".join(b"1\r\n%c\r\n" % octet for octet in HIDDEN) + b"0\r\n\r\n")


def _request_lines() -> _Cases:
    """Request lines with one octet more or other, and other forms of target and version."""
    for octet in (*CONTROLS, 0x80, 0x85, 0xA0, 0xFF):
        one = bytes([octet])
        for place, line in [
            ("before", b"%bGET /v1/outer HTTP/1.1"),
            ("in the method", b"G%bET /v1/outer HTTP/1.1"),
            ("after the method", b"GET%b /v1/outer HTTP/1.1"),
            ("for the first blank", b"GET%b/v1/outer HTTP/1.1"),
            ("before the target", b"GET %b/v1/outer HTTP/1.1"),
            ("in the target", b"GET /v1/ou%bter HTTP/1.1"),
            ("for the second blank", b"GET /v1/outer%bHTTP/1.1"),
            ("before the version", b"GET /v1/outer %bHTTP/1.1"),
            ("in the version", b"GET /v1/outer HTTP/%b1.1"),
            ("behind", b"GET /v1/outer HTTP/1.1%b"),
        ]:
            yield f"{octet:02x} {place}", request(line=line % one)
    for version in [
        *(b"HTTP/0.9", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/1.10", b"HTTP/2.0", b"HTTP/2", b"HTTP/3.0", b"HTTP/9.9"),
        *(b"http/1.1", b"HTTP/01.1", b"HTTP/1.01", b"HTTP/+1.1", b"HTTP/1,1", b"HTTP/1", b"HTTP1.1", b"HTTPS/1.1"),
        *(
            b"ICE/1.0",
            b"RTSP/1.0",
            b"IHTTP/1.1",
            b"HTTP/4294967297.1",
            b"HTTP/1.1 HTTP/1.1",
            b"HTTP/1.1;x",
            b"HTTP//1.1",
        ),
        *(b"HTTP/1.1\r\n Host: x", b"HTTP/1.1\r\n\tX: y", b"HTTP/\xef\xbc\x91.1", b"", b"HTTP/1.\xd9\xa1"),
    ]:
        yield f"version {printable(version)}", request(line=b"GET /v1/outer " + version)
        yield (
            f"version {printable(version)}, a body",
            request(length(HIDDEN), line=b"POST /v1/outer " + version, body=HIDDEN),
        )
        yield (
            f"version {printable(version)}, chunks",
            request(CHUNKED, line=b"POST /v1/outer " + version, body=IN_CHUNK),
        )
    for target in [
        *(
            b"http://proxy/v1/outer",
            b"HTTP://proxy/v1/outer",
            b"//proxy/v1/outer",
            b"proxy:80",
            b"proxy/v1/outer",
            b"*",
        ),
        *(b"?x", b"#", b"/v1/outer#x", b"/v1/outer?x#y", b"!", b"@proxy/v1/outer", b":80/v1/outer", b"http:/v1/outer"),
        *(
            b"/v1/outer HTTP/1.1 ",
            b"/v1/outer%0d%0aX:y",
            b"/v1/outer%20HTTP/1.1%0d%0a",
            b"/v1/outer%00",
            b"/v1/\xc3\xa9",
        ),
        *(b"/v1/outer\\x", b"/v1/outer?x=\xe2\x84\xaa", b"/v1/outer?a b", b"/v1/outer?\xa0HTTP/1.1", b"/v1/outer;x"),
    ]:
        yield f"target {printable(target)}", request(line=b"GET %b HTTP/1.1" % target)
    for line in (
        b"GET",
        b"GET ",
        b"",
        b" ",
        b"\t",
        b"GET /v1/outer",
        b"NONSENSE",
        b'G=":<>(e),[T];?" /v1/outer HTTP/1.1',
    ):
        yield f"line {printable(line)}", request(line=line)


def _heads() -> _Cases:
    """Heads whose lines or end are read in more than one way."""
    for octet in CONTROLS:
        one = bytes([octet])
        yield f"{octet:02x} in a value", request(b"X-One: a%bb" % one, line=b"GET /v1/outer HTTP/1.1")
        yield f"{octet:02x} in a name", request(b"X-%bOne: a" % one, line=b"GET /v1/outer HTTP/1.1")
        yield f"{octet:02x} in Host", request(line=b"GET /v1/outer HTTP/1.1").replace(b"proxy", b"pro%bxy" % one)
        split = b"X-One: a%bX-Two: b%b%b" % (one, one, one)
        yield f"{octet:02x} for line ends", request(split, line=b"GET /v1/outer HTTP/1.1", body=HIDDEN)
    for sign in b'"(),/;<=>?@[\\]{}':
        yield f"{chr(sign)} in a name", request(b"X-%cOne: a" % sign, line=b"GET /v1/outer HTTP/1.1")
    for end in (b"\n", b"\r", b"\r\r\n", b"\n\r", b"\0", b"\x85", b"\xe2\x80\xa8"):
        head = request(line=b"GET /v1/outer HTTP/1.1")
        yield f"lines end in {printable(end)}", head.replace(b"\r\n", end)
        yield f"the head ends in {printable(end)}", head[:-2] + end + HIDDEN
        yield f"the first line ends in {printable(end)}", head.replace(b"\r\n", end, 1)
    for line in (
        b"",
        b":",
        b": x",
        b" ",
        b"\t",
        b"X",
        b"X y",
        b" X: y",
        b"X\r\n : y",
        b"X: y\r\n\rZ",
        b"\0:",
        b"\xefX: y",
        b"::",
    ):
        head = request(line=b"POST /v1/outer HTTP/1.1")
        for place, data in [("first", head.replace(b"Host", line + b"\r\nHost", 1)), ("last", request(line))]:
            yield f"line {printable(line)} {place}", data[:-2] + length(HIDDEN) + b"\r\n\r\n" + HIDDEN
    for hosts in [
        *((), (b"Host: a", b"Host: b"), (b"Host: a", b"Host: a"), (b"Host:",), (b"Host: a b",), (b"Host: a, b",)),
        *((b"Host: a@b",), (b"Host: a/b",), (b"Host: a:b",), (b"Host: a:80:80",), (b"Host: a\\b",), (b"Host: a#b",)),
        *((b"Host: \xffa",), (b"Host: a?b",), (b"Host: [::1]",), (b"Host: [::1",), (b"Host : a",), (b"Host\r\n : a",)),
        *(
            (b"Host: a", b" Host: b"),
            (b"Host: a\r\n b",),
            (b"Host: \x0ba",),
            (b"Host: a", b"X: y\nHost: b"),
            (b"Host: a:",),
        ),
    ]:
        names = [printable(host) for host in hosts]
        yield f"hosts {names}", b"\r\n".join([b"GET /v1/outer HTTP/1.1", *hosts, AUTHORIZATION, b"", b""])
    yield "no Host in 1.0", b"GET /v1/outer HTTP/1.0\r\n%b\r\nConnection: keep-alive\r\n\r\n" % AUTHORIZATION
    yield "a large head", request(b"X-One: " + b"a" * 65_000, line=b"GET /v1/outer HTTP/1.1")
    yield "an endless head", request(b"X-One: " + b"a" * 66_000, line=b"GET /v1/outer HTTP/1.1")
    yield "many headers", request(*[b"X-%d: a" % number for number in range(7000)], line=b"GET /v1/outer HTTP/1.1")
    for before in (b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b"\r\n\n", b"\xef\xbb\xbf", b"\r\n" * 2000):
        yield f"{printable(before)[:40]} first", before + request(line=b"GET /v1/outer HTTP/1.1")
    yield "many lines between", request(length(2), body=b"{}") + b"\r\n" * 30


def _expectations() -> _Cases:
    """Expect, plain and obfuscated: 0.CL and CL.0 by way of an answer before the body."""
    for value in [
        *(b"100-continue", b"100-Continue", b"100-continue ", b"\t100-continue", b"100-continue, 100-continue"),
        *(b"y 100-continue", b"100-continue, y", b"x=100-continue", b"100-continue;q=1", b'"100-continue"', b"100"),
        *(b"", b"200-ok", b"\x0b100-continue", b"100-continue\0", b"\r\n 100-continue", b"100-continue\r\n\x20x"),
        *(b"100-continue\r\nExpect: 100-continue", b"x\r\nExpect: 100-continue", b"100-continue\r\nExpect: x"),
    ]:
        line = b"Expect: " + value
        yield f"Expect {printable(value)}", request(line, length(HIDDEN), body=HIDDEN)
        yield f"Expect {printable(value)}, chunks", request(line, CHUNKED, body=IN_CHUNK)
        yield f"Expect {printable(value)}, GET", request(line, line=b"GET /v1/outer HTTP/1.1")
        yield (
            f"Expect {printable(value)}, 1.0",
            request(line, length(HIDDEN), line=b"POST /v1/outer HTTP/1.0", body=HIDDEN),
        )
    for name in (b"Expect ", b" Expect", b"Expect\0", b"Foo: x\nExpect", b"X-Expect"):
        yield f"{printable(name)}", request(name + b": 100-continue", length(HIDDEN), body=HIDDEN)
    yield (
        "Expect to elsewhere",
        request(b"Expect: 100-continue", length(HIDDEN), line=b"POST /nowhere HTTP/1.1", body=HIDDEN),
    )


_KINDS = {
    "transfer-encoding": _codings,
    "octets at transfer-encoding": _coding_octets,
    "content-length": _lengths,
    "bodies where none is expected": _quiet_lengths,
    "chunks": _chunks,
    "request lines": _request_lines,
    "heads": _heads,
    "expect": _expectations,
}
