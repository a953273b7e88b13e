"""Makes multipart forms that readers may read differently."""

from support.readers.chance import Chance, mutated

_LINES = (b"\n", b"\r", b"\r\n\r\n", b" \r\n", b"\r\n ", b"")
_NAMES = (
    *(
        b'"model"',
        b'"model"',
        b'"model"',
        b'"model"',
        b"model",
        b'"MODEL"',
        b'"model[]"',
        b'"x"',
        b'"file"',
        b'"model "',
    ),
    *(b"'model'", b'"mod\\el"', b'"x\\"; name=\\"model"', b'"mod%65l"', b'"model\0x"', b'"=?utf-8?q?model?="', b'""'),
    *(b'"model_id"', b'"x[model]"', b"mode\xc3\xad", b'"_charset_"'),
)
_PARAMETERS = (
    *(b'; filename="a.wav"', b"; filename=a", b'; filename=""', b'; filename="a\\"; name="model"', b"; charset=utf-16"),
    *(b"; filename*=utf-8''a", b'; name="model"', b"; name*=utf-8''model", b"; name*0=mo; name*1=del", b" (x)", b";"),
    *(b'; filename="model"; name="x"', b'; filename="x name=model"', b'; filename="a;b"'),
)
_HEADERS = (
    *(
        b"Content-Type: text/plain",
        b"Content-Type: application/octet-stream",
        b"Content-Type: text/plain; charset=utf-16",
    ),
    *(b"Content-Type: multipart/mixed; boundary=C", b"Content-Type: application/json", b"Content-Type: message/rfc822"),
    *(
        b"Content-Transfer-Encoding: base64",
        b"Content-Transfer-Encoding: quoted-printable",
        b"Content-Length: 3",
        b"X: y",
    ),
    *(b'Content-Disposition: form-data; name="model"', b'Content-Disposition : form-data; name="model"', b" x", b": x"),
)
_VALUES = (
    *(
        b"evil-model",
        b"evil-model",
        b"evil-model",
        b"",
        b"x",
        b"x" * 300,
        b'"good-model"',
        b"good-model\0",
        b"good-model\n",
    ),
    *(b"\xff", b"ZXZpbC1tb2RlbA==", b"evil=2Dmodel", b"\r\n--B", b"--B", b"x\r\n--B\r\n", b"\n--B\n", b"\r\n--Bc\r\n"),
    *(b"a\r\n--B--\r\nb", b"\r\n--C\r\n\r\nx\r\n--C--"),
)
_DELIMITERS = (b"--B ", b"--B\t", b"-B", b"--b", b"--B--", b"----B", b"--BB")
_PREAMBLES = (b"preamble\r\n", b"\r\n", b"--", b"\n", b" ")
_ENDS = (b"--B--", b"", b"--B--x", b"--B--\r\n\r\n", b"--B-", b"--B\r\n", b"--B--\n")
_USUAL_TYPE = b"multipart/form-data; boundary=B"
_TYPES = (
    *(b'multipart/form-data; boundary="B"', b"multipart/form-data;boundary=B", b"Multipart/Form-Data; BOUNDARY=B"),
    *(_USUAL_TYPE + b"; charset=utf-8", b"multipart/form-data; boundary=C; boundary=B", _USUAL_TYPE + b",C"),
    *(b'multipart/form-data; boundary="B "', b"multipart/form-data; boundary*=utf-8''B"),
)
_PIECES = (
    *(b"\r\n", b"\n", b"\r", b"\0", b'"', b";", b"\\", b" ", b"\t", b"-", b"\xff", b"=", b"\x0b", b"\r\n\r\n", b"\n\n"),
    *(b"--B", b"--B\r\n", b"--B--", b"\r\n--B\r\n", b"\r\r", b"name=", b'name="model"'),
    b'Content-Disposition: form-data; name="model"\r\n\r\n',
)


def form(chance: Chance) -> tuple[bytes, bytes]:
    """Return a Content-Type and a form, or nearly."""
    chance.begin()
    body = chance.choice(_PREAMBLES) if chance.is_odd(20) else b""
    names = [b'"model"', *chance.choices((b'"x"', b'"file"', b'"mode"', b'"stream"'), k=chance.randrange(3))]
    chance.shuffle(names)
    body += b"".join(_part(name, chance) for name in names)
    body += chance.choice(_ENDS) if chance.is_odd(8) else b"--B--\r\n"
    body = mutated(body, chance, _PIECES) if chance.is_odd(3) else body
    return (chance.choice(_TYPES) if chance.is_odd(8) else _USUAL_TYPE), body


def _part(name: bytes, chance: Chance) -> bytes:
    line = chance.choice(_LINES) if chance.is_odd(20) else b"\r\n"
    name = chance.choice(_NAMES) if chance.is_odd(4) else name
    parameters = chance.choice(_PARAMETERS) if chance.is_odd(4) else b""
    headers = [b"Content-Disposition: form-data; name=" + name + parameters]
    if chance.is_odd(4):
        headers.insert(chance.randrange(2), chance.choice(_HEADERS))
    delimiter = chance.choice(_DELIMITERS) if chance.is_odd(20) else b"--B"
    value = chance.choice(_VALUES) if chance.is_odd(3) else b"good-model"
    return delimiter + line + line.join(headers) + line + line + value + line
