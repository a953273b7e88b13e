import base64
import json
import random
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.demand.paragraphs import PARAGRAPHS

from addon.demand.texts import BLOCK, TextBound, price_of, text_bound
from addon.demand.vocabularies import Vocabulary, vocabulary_of
from addon.metering.estimates import counting

_CHANCE = random.Random(1)  # noqa: S311 - no secret

FORMS = {
    "base64": base64.b64encode(_CHANCE.randbytes(3000)).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(_CHANCE.randbytes(3000)).decode(),
    "hex": _CHANCE.randbytes(3000).hex(),
    "HEX": _CHANCE.randbytes(3000).hex().upper(),
    "digits": "".join(_CHANCE.choices(string.digits, k=3000)),
    "single digits": " ".join(_CHANCE.choices(string.digits, k=3000)),
    "numbers": ", ".join(str(_CHANCE.gauss(0, 10)) for _ in range(300)),
    "letters": "".join(_CHANCE.choices(string.ascii_lowercase, k=3000)),
    "LETTERS": "".join(_CHANCE.choices(string.ascii_uppercase, k=3000)),
    "letters and digits": "".join(_CHANCE.choices(string.ascii_letters + string.digits, k=3000)),
    "signs": "".join(_CHANCE.choices(string.punctuation, k=3000)),
    "printable": "".join(_CHANCE.choices(string.printable, k=3000)),
    "words": " ".join("".join(_CHANCE.choices(string.ascii_lowercase, k=5)) for _ in range(500)),
    "UUIDs": "\n".join("-".join(_CHANCE.randbytes(n).hex() for n in (4, 2, 2, 2, 6)) for _ in range(100)),
    "amino acids": "".join(_CHANCE.choices("ACDEFGHIKLMNPQRSTVWY", k=3000)),
    "emoji": "".join(chr(_CHANCE.randrange(0x1F300, 0x1F64F)) for _ in range(1000)),
    "families": "👨‍👩‍👧‍👦❤️🏳️‍🌈👍🏽" * 50,
    "boxes": "".join(chr(_CHANCE.randrange(0x2500, 0x259F)) for _ in range(1000)),
    "formulas": "".join(chr(_CHANCE.randrange(0x2200, 0x22FF)) for _ in range(1000)),
    "letters of formulas": "".join(chr(_CHANCE.randrange(0x1D400, 0x1D7FF)) for _ in range(1000)),
    "phonetic": "".join(chr(_CHANCE.randrange(0x250, 0x2AF)) for _ in range(1000)),
    "marks": "".join("a" + chr(_CHANCE.randrange(0x300, 0x36F)) * 3 for _ in range(500)),
    "Ethiopic": "".join(chr(_CHANCE.randrange(0x1200, 0x1357)) for _ in range(1000)),
    "cuneiform": "".join(chr(_CHANCE.randrange(0x12000, 0x12399)) for _ in range(1000)),
    "controls": "".join(chr(_CHANCE.randrange(32)) for _ in range(1000)),
    "blanks": " " * 5000,
    "blank lines": " \n\t\n" * 1000,
    "blanks and tabs": "".join(_CHANCE.choices(" \t", k=3000)),
    "a blank and a tab": " \t" * 1000,
    "two blanks and a tab": "  \t" * 1000,
    "further controls": "".join(chr(_CHANCE.randrange(0x80, 0xA0)) for _ in range(1000)),
    "Georgian capitals": "".join(chr(_CHANCE.randrange(0x10A0, 0x10C6)) for _ in range(1000)),
    "Greek signs": "".join(chr(_CHANCE.randrange(0x3D0, 0x400)) for _ in range(1000)),
    "old Cyrillic": "".join(chr(_CHANCE.randrange(0x460, 0x482)) for _ in range(1000)),
    "Hebrew accents": "".join(chr(_CHANCE.randrange(0x591, 0x5B0)) for _ in range(1000)),
    "rules": "----\n====\n****\n" * 100,
    "one long rule": "-" * 5000,
}


@pytest.mark.parametrize("language", PARAGRAPHS)
@pytest.mark.parametrize("encoding", ["o200k_base", "cl100k_base", "voyage3_base"])
def test_a_language_has_no_more_tokens_than_its_bound(language: str, encoding: str) -> None:
    vocabulary = Vocabulary.O200K if encoding == "o200k_base" else Vocabulary.OTHER
    text = PARAGRAPHS[language]
    tokens, bound = counting.counter(encoding)(text), text_bound(text, vocabulary)
    assert tokens <= bound
    assert bound <= 3 * tokens or vocabulary is Vocabulary.OTHER


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ["o200k_base", "cl100k_base", "voyage3_base"])
def test_no_form_of_text_has_more_tokens_than_its_bound(form: str, encoding: str) -> None:
    vocabulary = Vocabulary.O200K if encoding == "o200k_base" else Vocabulary.OTHER
    assert counting.counter(encoding)(FORMS[form]) <= text_bound(FORMS[form], vocabulary)


@given(st.text())
def test_a_bound_is_never_negative_and_never_more_than_a_token_a_byte(text: str) -> None:
    assert 0 <= text_bound(text) <= len(text.encode(errors="replace"))
    assert bool(text_bound(text)) == bool(text)


@given(st.text(), st.text())
def test_more_text_never_has_a_lower_bound(text: str, more: str) -> None:
    assert text_bound(text) <= text_bound(text + more)


@given(st.text(), st.text())
def test_text_in_front_takes_at_most_the_start_of_a_run(text: str, before: str) -> None:
    assert text_bound(text) <= text_bound(before + text) + 6


@given(st.lists(st.binary(max_size=50)))
def test_pieces_have_the_bound_of_the_whole(pieces: list[bytes]) -> None:
    apart, whole = TextBound(), TextBound()
    for piece in pieces:
        apart.feed(piece)
    whole.feed(b"".join(pieces))
    assert apart.tokens(Vocabulary.OTHER) == whole.tokens(Vocabulary.OTHER)


@pytest.mark.parametrize("language", ["English", "Chinese", "Russian", "Hindi"])
@pytest.mark.parametrize("shift", range(4))
def test_the_border_of_a_block_cuts_no_character(language: str, shift: int) -> None:
    text = "x" * shift + PARAGRAPHS[language] * (2 * BLOCK // len(PARAGRAPHS[language].encode()) + 1)
    whole, apart = TextBound(), TextBound()
    whole.feed(text.encode())
    for start in range(0, len(text.encode()), 1000):
        apart.feed(text.encode()[start : start + 1000])
    assert whole.tokens(Vocabulary.O200K) == apart.tokens(Vocabulary.O200K)
    assert counting.counter("o200k_base")(text) <= whole.tokens(Vocabulary.O200K)


@pytest.mark.parametrize("is_ascii", [True, False])
@pytest.mark.parametrize("language", ["English", "Chinese", "Russian", "Hindi"])
@pytest.mark.parametrize("shift", range(12))
def test_escapes_count_as_what_they_stand_for(language: str, shift: int, *, is_ascii: bool) -> None:
    paragraph = f'{PARAGRAPHS[language]}\n"\\" 👍\t'
    text = "x" * shift + paragraph * (BLOCK // len(paragraph) + 1)
    escaped = json.dumps(text, ensure_ascii=is_ascii)[1:-1].encode()
    bound = TextBound(is_escaped=True)
    for start in range(0, len(escaped), 777):
        bound.feed(escaped[start : start + 777])
    tokens = bound.tokens(Vocabulary.O200K)
    assert bound.size == len(text.encode())
    assert abs(tokens - text_bound(text)) <= 6 * (len(escaped) // BLOCK + 1)


@given(st.binary(), st.booleans())
def test_bytes_that_are_no_text_have_a_bound_too(data: bytes, is_escaped: bool) -> None:
    bound = TextBound(is_escaped=is_escaped)
    bound.feed(data * 100)
    assert 0 <= bound.tokens(Vocabulary.O200K) <= len(data) * 100


@pytest.mark.parametrize("start", [b"\\" * 3, b"\\ud83d", b"\\u00", b'"', b"\xe4\xbd", b"\\u" * 99])
def test_long_text_that_is_no_json_takes_linear_time(start: bytes) -> None:
    data = start * (2_000_000 // len(start))
    bound = TextBound(is_escaped=True)
    begun = time.process_time()
    bound.feed(data)
    bound.finish()
    assert time.process_time() - begun < 2
    assert bound.size <= len(data)


def test_long_texts_take_linear_time() -> None:
    def seconds(text: bytes) -> float:
        begun = time.process_time()
        bound = TextBound()
        bound.feed(text)
        bound.tokens(Vocabulary.O200K)
        return time.process_time() - begun

    text = PARAGRAPHS["English"].encode() * 5000  # 1 MB
    once = min(seconds(text) for _ in range(3))
    assert min(seconds(text * 8) for _ in range(3)) < 24 * once
    assert once < 0.5


def test_a_text_that_was_counted_apart_is_added() -> None:
    both, one, other = TextBound(), TextBound(), TextBound()
    one.feed(b"Hello, world. ")
    other.feed(b"Wie geht's?")
    both.add(one)
    both.add(other)
    expected = one.tokens(Vocabulary.O200K) + other.tokens(Vocabulary.O200K)
    assert expected - 1 <= both.tokens(Vocabulary.O200K) <= expected


def test_claudes_newest_need_a_third_more() -> None:
    text = PARAGRAPHS["English"]
    assert text_bound(text, Vocabulary.CLAUDE) == -(-text_bound(text, Vocabulary.OTHER) * 135 // 100)


@pytest.mark.parametrize(
    ("model", "vocabulary"),
    [
        ("gpt-5", Vocabulary.O200K),
        ("ft:gpt-4o-2024-08-06:org::id", Vocabulary.O200K),
        ("openai/gpt-oss-120b", Vocabulary.O200K),
        ("openai.gpt-oss-120b-1:0", Vocabulary.O200K),
        ("o3-mini", Vocabulary.O200K),
        ("gpt-4", Vocabulary.OTHER),
        ("gpt-3.5-turbo", Vocabulary.OTHER),
        ("text-embedding-3-small", Vocabulary.OTHER),
        ("deepseek-chat", Vocabulary.OTHER),
        ("", Vocabulary.OTHER),
        ("anthropic/claude-opus-4-8", Vocabulary.CLAUDE),
        ("us.anthropic.claude-sonnet-4-6-v1:0", Vocabulary.CLAUDE),
    ],
)
def test_a_models_name_tells_its_vocabulary(model: str, vocabulary: Vocabulary) -> None:
    assert vocabulary_of(model) is vocabulary


@given(st.text(max_size=300))
def test_a_short_text_has_the_same_price_in_one_vocabulary_as_in_both(text: str) -> None:
    data = text.encode()
    bound = TextBound()
    bound.feed(data or b" ")
    bound.finish()
    assert (price_of(data or b" ", Vocabulary.O200K), price_of(data or b" ", Vocabulary.CLAUDE)) == (
        bound.o200k,
        bound.other,
    )
