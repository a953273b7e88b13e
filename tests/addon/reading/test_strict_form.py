import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.demand import Cut
from addon.reading.doubt import Doubt
from addon.reading.strict_form import KEPT, read_form

MIB = 1024 * 1024
AUDIO = bytes(range(256)) + b"\r\n\r\n--\r\n-- Content-Disposition: form-data; name=model\r\n\r\n"

# As these clients write it, by hand from their sources; the file holds AUDIO.
CLIENTS: dict[str, tuple[bytes, bytes]] = {
    "httpx and OpenAI's SDK": (
        b"c0ffee0123456789c0ffee0123456789",
        (
            b'--%(b)b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
            b'--%(b)b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
            b"Content-Type: audio/wav\r\n\r\n"
            b"%(f)b\r\n--%(b)b--\r\n"
        ),
    ),
    "requests": (
        b"4a2c9f0e8b7d6c5e4a2c9f0e8b7d6c5e",
        (
            b'--%(b)b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
            b'--%(b)b\r\nContent-Disposition: form-data; name="timestamp_granularities[]"\r\n\r\nword\r\n'
            b'--%(b)b\r\nContent-Disposition: form-data; name="timestamp_granularities[]"\r\n\r\nsegment\r\n'
            b'--%(b)b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n%(f)b\r\n--%(b)b--\r\n'
        ),
    ),
    "aiohttp": (
        b"f7d2a1b3c4d5e6f708192a3b4c5d6e7f",
        (
            b'--%(b)b\r\nContent-Type: application/octet-stream\r\nContent-Disposition: form-data; name="file"; '
            b'filename="a.wav"\r\n\r\n%(f)b\r\n'
            b"--%(b)b\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b'Content-Disposition: form-data; name="model"\r\n\r\n'
            b"whisper-1\r\n--%(b)b--\r\n"
        ),
    ),
    "node's FormData": (
        b"----formdata-undici-012345678901",
        (
            b'--%(b)b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
            b"Content-Type: application/octet-stream\r\n\r\n%(f)b\r\n"
            b'--%(b)b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--%(b)b--\r\n'
        ),
    ),
    "the package form-data": (
        b"--------------------------515890814546601021194782",
        (
            b'--%(b)b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
            b'--%(b)b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
            b"Content-Type: audio/wave\r\n\r\n"
            b"%(f)b\r\n--%(b)b--\r\n"
        ),
    ),
    "Chrome": (
        b"----WebKitFormBoundaryx7Kv2dU9QeT1aB3c",
        (
            b'--%(b)b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
            b'--%(b)b\r\nContent-Disposition: form-data; name="file"; filename="\xc3\xa4 (1).wav"\r\n'
            b"Content-Type: audio/wav\r\n\r\n%(f)b\r\n--%(b)b--\r\n"
        ),
    ),
    "Go's mime/multipart": (
        b"9051914041544843365972754266c9a1d7ba6e0c3b2f4d5e6a7b8c9d0e1f",
        (
            b'--%(b)b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
            b"Content-Type: application/octet-stream\r\n\r\n%(f)b\r\n"
            b'--%(b)b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--%(b)b--\r\n'
        ),
    ),
    ".NET": (
        b"7c4a8d09-ca37-4bc5-9f2d-2f1b3c4d5e6f",
        (
            b"--%(b)b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=model\r\n\r\n"
            b"whisper-1\r\n--%(b)b\r\nContent-Type: audio/wav\r\n"
            b"Content-Disposition: form-data; name=file; filename=a.wav; "
            b"filename*=utf-8''a.wav\r\n\r\n%(f)b\r\n--%(b)b--\r\n"
        ),
    ),
    "curl": (
        b"------------------------d74496d66958873e",
        (
            b'--%(b)b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
            b"Content-Type: application/octet-stream\r\n\r\n%(f)b\r\n--%(b)b\r\n"
            b'Content-Disposition: form-data; name="model"'
            b"\r\n\r\nwhisper-1\r\n--%(b)b--\r\n"
        ),
    ),
    "OkHttp": (
        b"2f9d3c64-2a0e-4a6f-9c5e-5a1c6f0b7d11",
        (
            b'--%(b)b\r\nContent-Disposition: form-data; name="model"\r\nContent-Length: 9\r\n\r\nwhisper-1\r\n'
            b'--%(b)b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n'
            b"Content-Length: 321\r\n\r\n%(f)b\r\n--%(b)b--\r\n"
        ),
    ),
    "Apache HttpClient": (
        b"Vq3k2Zp-LxT8_wNfYbR5mQ",
        (
            b'--%(b)b\r\nContent-Disposition: form-data; name="model"\r\n'
            b"Content-Type: text/plain; charset=ISO-8859-1\r\n\r\n"
            b"whisper-1\r\n--%(b)b\r\n"
            b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav'
            b"\r\n\r\n%(f)b\r\n--%(b)b--\r\n"
        ),
    ),
    "without a line end": (
        b"B",
        b'--%(b)b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--%(b)b--',
    ),
    "an empty field": (
        b"B",
        (
            b'--%(b)b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\r\n'
            b'--%(b)b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--%(b)b--\r\n'
        ),
    ),
}


def read(form: bytes, boundary: bytes = b"B", length: int = 10**6) -> str:
    return read_form([form[start : start + length] for start in range(0, len(form), length)], boundary).model


@pytest.mark.parametrize("length", [1, 2, 3, 7, 100, 10**6])
@pytest.mark.parametrize("client", CLIENTS)
def test_forms_of_the_usual_clients_are_read(client: str, length: int) -> None:
    boundary, form = CLIENTS[client]
    assert read(form % {b"b": boundary, b"f": AUDIO}, boundary, length) == "whisper-1"


def part(headers: bytes, value: bytes = b"a") -> bytes:
    return b"--B\r\n%b\r\n\r\n%b\r\n" % (headers, value)


def named(name: bytes, value: bytes = b"a") -> bytes:
    return part(b"Content-Disposition: form-data; " + name, value)


MODEL = named(b'name="model"')
END = b"--B--\r\n"

DISPOSITION = b'Content-Disposition: form-data; name="model"'
FIELD = b'Content-Disposition: form-data; name="x"'

TRICKS = {
    "no model": named(b'name="file"') + END,
    "nothing": b"",
    "no part": END,
    "two models": MODEL + named(b'name="model"', b"b") + END,
    "the same model twice": MODEL + MODEL + END,
    "MODEL": MODEL + named(b'name="MODEL"', b"b") + END,
    "MODEL alone": named(b'name="MODEL"') + END,
    "model[]": MODEL + named(b'name="model[]"', b"b") + END,
    "model[0] alone": named(b'name="model[0]"') + END,
    "model_id": MODEL + named(b'name="model_id"', b"b") + END,
    "x[model]": MODEL + named(b'name="x[model]"', b"b") + END,
    "fallbacks": MODEL + named(b'name="fallbacks"', b"b") + END,
    "engine": MODEL + named(b'name="engine"', b"b") + END,
    "a preamble": b"hello\r\n" + MODEL + END,
    "a line end first": b"\r\n" + MODEL + END,
    "an epilogue": MODEL + END + b"x",
    "a form after the end": MODEL + END + MODEL + END,
    "two line ends after the end": MODEL + END + b"\r\n",
    "no end": MODEL,
    "no end of a part": MODEL.removesuffix(b"\r\n"),
    "half an end": MODEL + b"--B-",
    "line feeds": (MODEL + END).replace(b"\r\n", b"\n"),
    "a line feed before a delimiter": b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\na\n--B--\r\n',
    "a line feed after a delimiter": (MODEL + END).replace(b"--B\r\n", b"--B\n"),
    "a delimiter within a line": named(b'name="x"', b"y --B") + MODEL + END,
    "a longer delimiter": named(b'name="x"', b"y\r\n--Bc") + MODEL + END,
    "a delimiter after a line feed": named(b'name="x"', b"y\n--B\n" + DISPOSITION + b"\n\nb") + MODEL + END,
    "blanks after a delimiter": MODEL.replace(b"--B\r\n", b"--B \r\n") + END,
    "a delimiter right after the headers": b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\n--B--\r\n',
    "a delimiter in a header": part(b'Content-Disposition: form-data; name="model"; filename="--B"') + END,
    "no headers": b"--B\r\n\r\na\r\n" + MODEL + END,
    "no disposition": part(b"Content-Type: text/plain") + MODEL + END,
    "two dispositions": part(DISPOSITION + b'\r\nContent-Disposition: form-data; name="x"') + END,
    "two types": part(DISPOSITION + b"\r\nContent-Type: text/plain\r\ncontent-type: text/plain") + END,
    "another header": part(DISPOSITION + b"\r\nX-A: b") + END,
    "an encoding": part(DISPOSITION + b"\r\nContent-Transfer-Encoding: base64", b"YQ==") + END,
    "a folded line": part(b'Content-Disposition: form-data;\r\n name="model"') + END,
    "a blank before the colon": part(b'Content-Disposition : form-data; name="model"') + END,
    "a NUL in a header": part(DISPOSITION + b"\0") + END,
    "a carriage return in a header": part(DISPOSITION + b"\r\r") + END,
    "a line feed in a header": part(DISPOSITION + b"\nX: y") + END,
    "an attachment": part(b'Content-Disposition: attachment; name="model"') + END,
    "two names": named(b'name="model"; name="x"') + END,
    "a name after another parameter": named(b'x=y; name="model"') + END,
    "name*": named(b"name*=utf-8''model") + END,
    "both names": named(b"name=\"x\"; name*=utf-8''model") + MODEL + END,
    "a name in single quotes": named(b"name='model'") + END,
    "an escaped name": named(b'name="mod\\el"') + END,
    "an encoded name": named(b'name="mod%65l"') + MODEL + END,
    "an encoded word": named(b'name="=?utf-8?q?model?="') + MODEL + END,
    "a name with a NUL": named(b'name="model\0x"') + MODEL + END,
    "a name with a blank": named(b'name="model "') + MODEL + END,
    "no name": named(b'filename="x"') + MODEL + END,
    "an empty name": named(b'name=""') + MODEL + END,
    "a quotation mark that is not closed": named(b'name="model') + END,
    "a blank around the equals sign": named(b'name = "model"') + END,
    "a comment": named(b'name="model" (x)') + END,
    "a file name of the model": named(b'name="model"; filename="x"') + END,
    "an empty file name of the model": named(b'name="model"; filename=""') + END,
    "a name within a file name": named(b'name="x"; filename="a name=model"') + MODEL + END,
    "an escape in a file name": named(b'name="x"; filename="a\\"; name="model"') + MODEL + END,
    "a semicolon in a file name": named(b'name="x"; filename="a; b"') + MODEL + END,
    "two file names": named(b'name="x"; filename="a"; filename="b"') + MODEL + END,
    "a file name in another charset": named(b'name="x"; filename="\xff"') + MODEL + END,
    "filename* in another charset": named(b"name=\"x\"; filename*=utf-16''a") + MODEL + END,
    "JSON": part(DISPOSITION + b"\r\nContent-Type: application/json", b'"a"') + END,
    "UTF-16": part(DISPOSITION + b"\r\nContent-Type: text/plain; charset=utf-16", "a".encode("utf-16")) + END,
    "UTF-7": part(DISPOSITION + b"\r\nContent-Type: text/plain; charset=utf-7", b"a+AGI-") + END,
    "a form in the form": part(FIELD + b"\r\nContent-Type: multipart/mixed; boundary=C") + MODEL + END,
    "a message in the form": part(FIELD + b"\r\nContent-Type: Message/RFC822") + MODEL + END,
    "_charset_": named(b'name="_charset_"', b"utf-16") + MODEL + END,
    "no UTF-8": named(b'name="model"', b"\xff") + END,
    "a long model": named(b'name="model"', b"a" * 257) + END,
    "an endless model": named(b'name="model"', b"a" * 10**6) + END,
    "an empty model": named(b'name="model"', b"") + END,
    "a line end after the model": named(b'name="model"', b"a\n") + END,
    "a blank before the model": named(b'name="model"', b" a") + END,
    "a list of models": named(b'name="model"', b"a,b") + END,
    "endless parts": named(b'name="x"') * 1000 + MODEL + END,
    "endless headers": b"--B\r\n" + b"Content-Type: " + b"x" * 5000,
}  # fmt: skip


@pytest.mark.parametrize("length", [1, 5, 10**6])
@pytest.mark.parametrize("trick", TRICKS)
def test_what_readers_take_differently_is_a_doubt(trick: str, length: int) -> None:
    with pytest.raises(Doubt, match=r"\.$"):
        read(TRICKS[trick], length=length)


@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "org/name:x", "模型", "a" * 256])
def test_the_model_is_taken_exactly(model: str) -> None:
    assert read(named(b'name="model"', model.encode()) + END) == model


@given(st.binary(max_size=200), st.integers(1, 20))
def test_any_bytes_in_a_file_leave_the_model_alone(data: bytes, length: int) -> None:
    assert read(named(b'name="file"; filename="x"', data) + MODEL + END, length=length) == "a" or b"--B" in data


@given(st.binary(max_size=100), st.integers(1, 20))
def test_no_bytes_raise_anything_but_a_doubt(data: bytes, length: int) -> None:
    with pytest.raises(Doubt):
        read(data, length=length)


def test_a_large_form_takes_little_memory() -> None:
    def pieces() -> list[bytes]:
        return [named(b'name="file"; filename="x"')[:-2], *[chunk] * 1000, b"\r\n", MODEL, END]

    chunk = bytes(65536)
    tracemalloc.start()
    try:
        assert read_form(pieces(), b"B").model == "a"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MIB


def test_other_fields_are_kept_as_texts_and_files_as_their_beginnings() -> None:
    form = (
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n' + b"ID3\xff" * 3000 + b"\r\n"
        b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
        b'--B\r\nContent-Disposition: form-data; name="x[]"\r\n\r\none\r\n'
        b'--B\r\nContent-Disposition: form-data; name="x[]"\r\n\r\ntwo\r\n'
        b'--B\r\nContent-Disposition: form-data; name="x[]"\r\n\r\n\r\n--B--\r\n'
    )
    for length in (1, 100, 10**6):
        found = read_form([form[start : start + length] for start in range(0, len(form), length)], b"B")
        assert found.model == "whisper-1"
        assert found.fields["x[]"] == ["one", "two", ""]
        file = found.fields["file"]
        assert isinstance(file, Cut)
        assert (file.size, file.start) == (12_000, "ID3\xff" * (KEPT // 4))
