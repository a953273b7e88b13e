import contextlib
import json
import tracemalloc
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.demand import Vocabulary
from addon.reading import outline, strict_json
from addon.reading.doubt import Doubt
from addon.reading.outline import CUT, LONG, Outline
from addon.reading.strict_json import parsed

MIB = 1024 * 1024

TRICKS = {
    "a name twice": b'{"model": "a", "model": "b"}',
    "a name twice, once escaped": b'{"model": "a", "\\u006dodel": "b"}',
    "a name twice within": b'{"x": {"y": 1, "y": 2}}',
    "a byte order mark": b'\xef\xbb\xbf{"model": "a"}',
    "UTF-16": '{"model": "a"}'.encode("utf-16"),
    "UTF-16 without a mark": '{"model": "a"}'.encode("utf-16-le"),
    "UTF-32": '{"model": "a"}'.encode("utf-32-be"),
    "no UTF-8": b'{"model": "\xff"}',
    "overlong UTF-8": b'{"model": "\xc1\xa1"}',
    "a surrogate in UTF-8": b'{"model": "\xed\xa0\x80"}',
    "beyond Unicode": b'{"model": "\xf4\x90\x80\x80"}',
    "cut UTF-8": b'{"model": "\xe6\xbc"}',
    "a lone high surrogate": b'{"model": "\\ud800"}',
    "a lone low surrogate": b'{"model": "\\udc00"}',
    "surrogates in the wrong order": b'{"model": "\\udc00\\ud800"}',
    "two high surrogates": b'{"model": "\\ud800\\ud800"}',
    "a surrogate and another escape": b'{"model": "\\ud800\\u0041"}',
    "NaN": b'{"model": "a", "x": NaN}',
    "Infinity": b'{"x": Infinity}',
    "-Infinity": b'{"x": -Infinity}',
    "a leading zero": b'{"x": 01}',
    "a number without digits": b'{"x": 1.}',
    "a plus sign": b'{"x": +1}',
    "hexadecimal": b'{"x": 0x10}',
    "a comment": b'{"model": "a" /* , "model": "b" */}',
    "a comment of a line": b'{"model": "a" // x\n}',
    "a comma at the end": b'{"model": "a",}',
    "single quotes": b"{'model': 'a'}",
    "a name without quotes": b'{model: "a"}',
    "bytes after it": b'{"model": "a"}{"model": "b"}',
    "a NUL after it": b'{"model": "a"}\0',
    "a NUL before it": b'\0{"model": "a"}',
    "a control character": b'{"model": "a\x01"}',
    "a line end in a text": b'{"model": "a\n"}',
    "an unknown escape": b'{"model": "\\x61"}',
    "an escaped apostrophe": b'{"model": "\\\'"}',
    "a short escape": b'{"model": "\\u06 d"}',
    "a form feed": b'{"model":\x0c"a"}',
    "a no-break space": b'{"model":\xc2\xa0"a"}',
    "no end": b'{"model": "a"',
    "no end of a text": b'{"model": "a',
    "no end of an escape": b'{"model": "a\\',
    "nothing": b"",
    "blanks": b" \r\n",
    "too deep": b"[" * 300 + b"]" * 300,
    "True": b'{"x": True}',
}


def pieces(data: bytes, length: int) -> list[bytes]:
    return [data[start : start + length] for start in range(0, len(data), length)]


@pytest.fixture(params=[None, 1, 7, 100_000])
def always_outlined(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The length of pieces; of the outline's reader, which takes small bodies too, unless it is the default."""
    if request.param:
        monkeypatch.setattr(strict_json, "WHOLE", -1)
    return request.param or 100_000


@pytest.mark.parametrize("trick", TRICKS)
def test_what_readers_take_differently_is_a_doubt(trick: str, always_outlined: int) -> None:
    with pytest.raises(Doubt, match=r"^The body .+\. (Send|Leave) .+\.$"):
        parsed(pieces(TRICKS[trick], always_outlined))


@pytest.mark.parametrize("trick", [name for name in TRICKS if name not in {"nothing", "blanks"}])
def test_a_trick_within_a_large_body_is_a_doubt(trick: str) -> None:
    body = b'{"x": "%b", "y": %b}' % (b"a" * 300_000, TRICKS[trick])
    with pytest.raises(Doubt):
        parsed(pieces(body, 65536))


INSIDE = {
    name: trick.removeprefix(b'{"model": "').removesuffix(b'"}')
    for name, trick in TRICKS.items()
    if trick.startswith(b'{"model": "')
    and name.startswith(
        (
            *("no UTF-8", "overlong", "a surrogate", "beyond", "cut UTF-8", "a lone", "surrogates", "two high"),
            *("a control", "a line end", "an unknown", "an escaped", "a short"),
        )
    )
}


assert len(INSIDE) == 15


@pytest.mark.parametrize("length", [1, 5, 65536])
@pytest.mark.parametrize("trick", INSIDE)
def test_what_is_cut_is_checked_as_strictly(trick: str, length: int) -> None:
    for body in (INSIDE[trick] + b"a" * 1000, b"a" * 1000 + INSIDE[trick], b"a" * 1000 + INSIDE[trick] + b"a" * 1000):
        with pytest.raises(Doubt):
            outlined(pieces(b'{"x": "%b"}' % body, length))


def outlined(parts: Iterable[bytes]) -> bytes:
    shortened = Outline()
    for part in parts:
        shortened.feed(part)
    return shortened.finish()


# No text is long enough to be cut: of 20 characters each takes 12 bytes at most.
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=20,
)


@given(ANY_JSON, st.booleans(), st.integers(1, 30))
def test_an_outline_of_short_texts_is_the_same_json(value: object, ascii_alone: bool, length: int) -> None:
    text = json.dumps(value, ensure_ascii=ascii_alone).encode()
    assert json.loads(outlined(pieces(text, length))) == json.loads(text)


@given(st.text(min_size=LONG + 1), st.booleans(), st.integers(1, 1000))
def test_a_long_text_is_cut_and_nothing_else(text: str, ascii_alone: bool, length: int) -> None:
    body = json.dumps({"model": "a", "x": [text, 1], "y": "b"}, ensure_ascii=ascii_alone).encode()
    assert json.loads(outlined(pieces(body, length))) == {"model": "a", "x": [CUT, 1], "y": "b"}


@pytest.mark.parametrize("length", [LONG - 1, LONG, LONG + 1])
def test_a_text_is_cut_where_it_is_longer_than_the_bound(length: int) -> None:
    text = "a" * length
    kept = json.loads(outlined(pieces(json.dumps([text]).encode(), 10)))
    assert kept == [text if length <= LONG else CUT]


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_a_doubt(data: bytes) -> None:
    for read in (parsed, outlined):
        with contextlib.suppress(Doubt):
            read(pieces(data, 3))


def test_escapes_in_pairs_are_read() -> None:
    assert parsed([b'{"\\u006dodel": "\\ud83d\\ude00\\/"}']) == {"model": "\N{GRINNING FACE}/"}


def test_a_long_name_of_a_field_is_a_doubt() -> None:
    with pytest.raises(Doubt, match="more than 256 bytes"):
        outlined([b'{"%b" : 1}' % (b"model" * 60)])


@pytest.mark.parametrize("body", [b"[%b1]" % (b"1," * 3 * MIB), b" " * 5 * MIB + b"{}", b"[%b1]" % (b"[]," * MIB)])
def test_a_body_without_long_texts_is_too_complex_from_a_size_on(body: bytes) -> None:
    with pytest.raises(Doubt, match="too many parts"):
        parsed(pieces(body, 65536))


def of_images(size: int) -> Iterator[bytes]:
    yield b'{"model": "a", "image": "'
    for _ in range(size // 65536):
        yield b"QUJD" * (65536 // 4)
    yield b'"}'


def test_a_large_body_takes_little_memory() -> None:
    tracemalloc.start()
    try:
        assert parsed(of_images(16 * MIB)) == {"model": "a", "image": CUT}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * MIB


def test_the_steps_over_a_large_piece_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = []
    step = outline.Outline._step  # noqa: SLF001 - what is looked at in one go

    def noted(self: Outline, data: bytes) -> None:
        longest.append(len(data))
        step(self, data)

    monkeypatch.setattr(outline.Outline, "_step", noted)
    parsed([b'{"x": "%b"}' % (b"a" * MIB)])
    assert max(longest) <= 65536


def test_the_tokens_of_strings_that_are_cut_are_counted_in_their_places() -> None:
    words, image = "a few words " * 100, "data:image/png;base64," + "iVBORw0K" * 40_000
    body = {"short": "a", "list": [words, {"inner": image}], "escaped": 'caf\u00e9 "x"\n' * 100, "mark": "\u2702"}
    text = json.dumps(body).encode()
    for length in (1000, 65_536, 10**7):
        found = parsed(pieces(text, length), counts=True)
        assert isinstance(found, dict)
        assert (found["short"], found["mark"]) == ("a", "\u2702")
        cut, (inner,) = found["list"][0], found["list"][1].values()
        assert words.startswith(cut.start)
        assert image.startswith(inner.start)
        assert (cut.size, inner.size) == (len(words), len(image))
        assert (len(cut.start), len(inner.start)) == (LONG, LONG)
        assert 300 <= cut.bound.tokens(Vocabulary.O200K) <= 700
        assert found["escaped"].bound.tokens(Vocabulary.O200K) >= 600
        assert parsed(pieces(text, length)) != found


def test_no_body_can_hold_the_mark_of_a_string_that_is_cut() -> None:
    body = json.dumps({"x": "y" * 300_000, "z": [f"\u2702{number}" for number in range(5)]}).encode()
    found = parsed(pieces(body, 65_536), counts=True)
    assert isinstance(found, dict)
    assert found["z"] == [f"\u2702{number}" for number in range(5)]
