"""An upper estimate of the tokens of a text, without a tokenizer.

Tokenizers first split a text: into words with the blank before them, runs of punctuation, blanks and line ends, and
digits by three; then into pieces that are frequent. So what costs a token is the start of a run, a change of case, a
group of letters that is rare, and each character of a script that the vocabulary hardly knows. These are counted, and
each kind has a rate. The rates are the cheapest that cover samples of text, found by linear programming over 115
languages, source code in ten of them, data formats, random strings and the blocks of Unicode.

Costs and nothing else are kept, so a text can be added in pieces, and each costs the same wherever it stands.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from addon.demand.vocabularies import Vocabulary

BLOCK = 64 * 1024
"""Bytes that are counted at once. Nothing is counted across their borders, which adds up to a token."""

_LOWER, _UPPER, _DIGITS = (
    frozenset(b"abcdefghijklmnopqrstuvwxyz"),
    frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    b"0123456789",
)
_PUNCTUATION = frozenset(range(ord("!"), ord("~") + 1)) - _LOWER - _UPPER - frozenset(_DIGITS)
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\r") | {127}
_HIGH = frozenset(range(128, 256))
_FIRST_OF_CHARACTER, _CONTINUED = 0xC0, 0x80


def _classes(other: bytes, *classes: tuple[bytes, Iterable[int]]) -> bytes:
    """Return a table for `bytes.translate` that puts the sign of its class in the place of each byte."""
    table = bytearray(other * 256)
    for sign, members in classes:
        for member in members:
            table[member] = sign[0]
    return bytes(table)


_WORDS = _classes(b".", (b"a", _LOWER | _UPPER | _HIGH), (b"0", _DIGITS))
_CASES = _classes(
    b".", (b"a", _LOWER), (b"A", _UPPER), (b"0", _DIGITS), (b" ", b" "), (b"n", b"\r\n"), (b"t", b"\t"),
    (b"c", _CONTROLS), (b"h", _HIGH),
)  # fmt: skip
_SOUNDS = _classes(b".", (b"c", _LOWER - set(b"aeiouy")), (b"C", _UPPER - set(b"AEIOUY")))
_SIGNS = _classes(b"\0", *((bytes((sign,)), (sign,)) for sign in _PUNCTUATION))
_IS_SIGN = _classes(b"a", (b".", _PUNCTUATION))
_NOT_FIRST = bytes(range(_FIRST_OF_CHARACTER))


class _Rate(NamedTuple):
    """The price of one of a kind, in hundredths of a token."""

    o200k: int
    other: int


_RATES: Mapping[str, _Rate] = {
    "words": _Rate(92, 90),
    "lower": _Rate(15, 26),
    "lower by 8": _Rate(36, 37),
    "lower by 16": _Rate(149, 127),
    "upper": _Rate(55, 48),
    "upper after lower": _Rate(68, 85),
    "three consonants": _Rate(47, 35),
    "three capital consonants": _Rate(36, 89),
    "rare letters": _Rate(86, 60),
    "digits": _Rate(0, 35),
    "digits by 3": _Rate(107, 218),
    "runs of digits": _Rate(246, 201),
    "digit after letter": _Rate(104, 80),
    "signs": _Rate(75, 78),
    "repeated signs": _Rate(3, 18),
    "sign after blank": _Rate(210, 20),
    "blanks": _Rate(1, 9),
    "tabs": _Rate(7, 14),
    "blanks beside tabs": _Rate(100, 100),
    "line ends": _Rate(79, 122),
    "controls": _Rate(248, 269),
}
"""The kinds of what is written in ASCII, in the order of `_counts_of_ascii`."""
_O200K = tuple(rate.o200k for rate in _RATES.values())
_OTHER = tuple(rate.other for rate in _RATES.values())


class _Script(NamedTuple):
    """Characters whose first byte in UTF-8, or the second after a certain first one, is in a range; and their rate."""

    first: int
    last: int
    rate: _Rate


_OF_LEADS: Mapping[str, _Script] = {
    "signs of Latin-1": _Script(0xC2, 0xC2, _Rate(42, 35)),
    "letters of Latin-1": _Script(0xC3, 0xC3, _Rate(149, 148)),
    "Latin A": _Script(0xC4, 0xC5, _Rate(198, 194)),
    "Latin B, phonetic": _Script(0xC6, 0xCB, _Rate(216, 287)),
    "combining": _Script(0xCC, 0xCD, _Rate(229, 236)),
    "Greek": _Script(0xCE, 0xCF, _Rate(50, 128)),
    "Cyrillic": _Script(0xD0, 0xD1, _Rate(53, 105)),
    "further Cyrillic": _Script(0xD2, 0xD3, _Rate(35, 35)),
    "Armenian": _Script(0xD4, 0xD5, _Rate(48, 268)),
    "Hebrew": _Script(0xD6, 0xD7, _Rate(46, 140)),
    "Arabic": _Script(0xD8, 0xD9, _Rate(35, 99)),
    "further Arabic": _Script(0xDA, 0xDB, _Rate(98, 256)),
    "Syriac, Thaana, N'Ko": _Script(0xDC, 0xDF, _Rate(217, 216)),
    "CJK": _Script(0xE4, 0xE9, _Rate(92, 156)),
    "Hangul": _Script(0xEB, 0xED, _Rate(59, 120)),
    "private": _Script(0xEE, 0xEE, _Rate(459, 426)),
    "full width, forms": _Script(0xEF, 0xEF, _Rate(152, 186)),
    "emoji and all beyond": _Script(0xF0, 0xF4, _Rate(429, 429)),
}
"""The scripts that their first byte tells."""

_OF_PAIRS: Mapping[int, Mapping[str, _Script]] = {
    0xE0: {
        "Devanagari": _Script(0xA4, 0xA5, _Rate(35, 143)),
        "Thai": _Script(0xB8, 0xB9, _Rate(56, 194)),
        "Bengali": _Script(0xA6, 0xA7, _Rate(55, 212)),
        "Tamil": _Script(0xAE, 0xAF, _Rate(47, 213)),
        "Telugu": _Script(0xB0, 0xB1, _Rate(43, 246)),
        "Gujarati": _Script(0xAA, 0xAB, _Rate(35, 321)),
        "Kannada": _Script(0xB2, 0xB3, _Rate(37, 241)),
        "Malayalam": _Script(0xB4, 0xB5, _Rate(35, 256)),
        "Gurmukhi": _Script(0xA8, 0xA9, _Rate(55, 319)),
        "Sinhala": _Script(0xB6, 0xB7, _Rate(57, 212)),
        "Oriya": _Script(0xAC, 0xAD, _Rate(112, 319)),
        "Tibetan": _Script(0xBC, 0xBF, _Rate(165, 319)),
    },
    0xE1: {
        "Vietnamese": _Script(0xBA, 0xBB, _Rate(35, 178)),
        "Georgian": _Script(0x82, 0x83, _Rate(42, 213)),
        "Burmese": _Script(0x80, 0x81, _Rate(55, 215)),
        "Khmer": _Script(0x9E, 0x9F, _Rate(51, 316)),
    },
    0xE2: {"dashes, quotes": _Script(0x80, 0x80, _Rate(105, 123))},
    0xE3: {
        "kana": _Script(0x81, 0x83, _Rate(79, 125)),
        "CJK punctuation": _Script(0x80, 0x80, _Rate(138, 125)),
    },
    0xEA: {"Hangul": _Script(0xB0, 0xBF, _Rate(59, 120))},
}
"""The scripts that their second byte tells, the most frequent first."""

_RESTS: Mapping[int, tuple[str, _Rate]] = {
    0xE0: ("Lao, and before Devanagari", _Rate(200, 300)),
    0xE1: ("others from 1084 on", _Rate(325, 323)),
    0xE2: ("symbols", _Rate(313, 311)),
    0xE3: ("further CJK", _Rate(250, 250)),
    0xEA: ("Yi, Vai, and others", _Rate(313, 323)),
}
"""The remainder of each of these first bytes."""

_SELDOM: Mapping[str, tuple[bytes, re.Pattern[bytes], _Rate]] = {
    "seldom, of two bytes": (
        b"\xc2\xcf\xd1\xd2\xd3\xd6",
        re.compile(
            rb"\xc2[\x80-\x9f]"  # controls
            rb"|\xcf[\x90-\xbf]"  # Greek signs, Coptic
            rb"|\xd1[\xa0-\xbf]"  # old Cyrillic, and letters of few speakers
            rb"|\xd2[\x80-\x8f\x94\x95\x9c-\x9f\xa4-\xa9\xac\xad\xb4\xb5\xb8\xb9\xbc-\xbf]"
            rb"|\xd3[\x81-\x8e\xa0\xa1\xaa-\xad\xb6\xb7\xba-\xbf]"
            rb"|\xd6[\x91-\xaf]"  # Hebrew accents
        ),
        _Rate(165, 165),
    ),
    "Georgian capitals": (b"\xe1", re.compile(rb"\xe1(?:\x82[\xa0-\xbf]|\x83[\x80-\x8f])"), _Rate(258, 90)),
}
"""Characters that texts hardly have, in scripts that are cheap otherwise, and the first bytes of these scripts. They
cost this beside the rate of their script, which makes it a token for each byte."""

_RARE = b"jkqwxz"

# Whole escapes of a JSON string (RFC 8259, section 7), surrogates in pairs. Possessive, so that it takes linear time.
_WHOLE = re.compile(
    rb"""(?:[^\\]++ | \\[^u] | \\u[dD][89abAB]..\\u.... | \\u(?![dD][89abAB])....)*+""", re.VERBOSE | re.DOTALL
)


class TextBound:
    """Counts a text that comes in pieces of any size, in UTF-8.

    With `is_escaped`, the text is the inside of a JSON string as it is written.
    """

    def __init__(self, *, is_escaped: bool = False) -> None:
        self.o200k = self.other = 0
        """The prices of what is counted already, in hundredths of a token."""
        self.size = 0
        """Bytes of the text that are counted already; a token has at least one."""
        self._is_escaped = is_escaped
        self._rest = bytearray()

    def feed(self, data: bytes) -> None:
        """Add the next bytes."""
        self._rest += data
        while len(self._rest) > BLOCK:
            end = self._border()
            block = bytes(self._rest[:end])
            del self._rest[:end]
            self._count(block)

    def add(self, other: "TextBound") -> None:
        """Add a text that was counted apart."""
        other.finish()
        self.o200k += other.o200k
        self.other += other.other
        self.size += other.size

    def finish(self) -> None:
        """Count what has come. The text after it is counted as behind a blank."""
        if self._rest:
            data = bytes(self._rest)
            self._rest.clear()
            self._count(data)

    def tokens(self, vocabulary: Vocabulary) -> int:
        """Return the most tokens that the text may have."""
        self.finish()
        return tokens_of(self.o200k if vocabulary is Vocabulary.O200K else self.other, self.size, vocabulary)

    def _border(self) -> int:
        """Return the end of the first block that cuts neither a character nor an escape."""
        end = BLOCK
        while end > BLOCK - 4 and _CONTINUED <= self._rest[end] < _FIRST_OF_CHARACTER:
            end -= 1
        found = _WHOLE.match(self._rest, 0, end) if self._is_escaped else None
        return end if found is None or not found.end() else found.end()

    def _count(self, data: bytes) -> None:
        if self._is_escaped and b"\\" in data:
            data = _unescaped(data)
        self.size += len(data)
        data = b" " + data  # so that each run has a byte before it
        counts = _counts_of_ascii(data)
        self.o200k += int(math.sumprod(counts, _O200K))
        self.other += int(math.sumprod(counts, _OTHER))
        if not data.isascii():
            for count, rate in _scripts(data):
                self.o200k += count * rate.o200k
                self.other += count * rate.other


def price_of(text: bytes, vocabulary: Vocabulary) -> int:
    """Return the price of a text of at most a block, in UTF-8 and in one vocabulary, in hundredths of a token."""
    data = b" " + text
    is_o200k = vocabulary is Vocabulary.O200K
    price = int(math.sumprod(_counts_of_ascii(data), _O200K if is_o200k else _OTHER))
    if not data.isascii():
        price += sum([count * (rate.o200k if is_o200k else rate.other) for count, rate in _scripts(data)])
    return price


def tokens_of(price: int, size: int, vocabulary: Vocabulary) -> int:
    """Return the most tokens that a text of a price and a size in bytes may have."""
    most = min(-(-price // 100), size)
    return most if vocabulary is Vocabulary.O200K else -(-most * vocabulary.value // 100)


def text_bound(text: str, vocabulary: Vocabulary = Vocabulary.O200K) -> int:
    """Return the most tokens that a text may have."""
    bound = TextBound()
    bound.feed(text.encode("utf-8", "replace"))
    return bound.tokens(vocabulary)


def _unescaped(data: bytes) -> bytes:
    try:
        return str(json.loads(b'"%b"' % data)).encode(errors="replace")
    except ValueError:  # no JSON, which others judge: as it is written it has more tokens
        return data


def _counts_of_ascii(data: bytes) -> Sequence[int]:
    """Return the number of each kind, in the order of `_RATES`.

    What a text has none of is not searched for in its neighbourhoods.
    """
    cases, sounds, words = data.translate(_CASES), data.translate(_SOUNDS), data.translate(_WORDS)
    others = cases.translate(None, b"a")
    lower = len(cases) - len(others)
    upper, blanks = others.count(b"A"), others.count(b" ")
    line_ends, signs = others.count(b"n"), others.count(b".")
    more = len(others) - upper - blanks - line_ends - signs  # not a bool, which would slow `sumprod` down
    digits = more and others.count(b"0")
    tabs = more and others.count(b"t")
    repeated = _repeated_signs(data, signs) if signs and cases.count(b"..") else 0
    long = cases.count(b"a" * 8)
    return (
        words.count(b".a") + (digits and words.count(b"0a")),
        lower,
        long,
        long and cases.count(b"a" * 16),
        upper,
        upper and cases.count(b"aA"),
        sounds.count(b"ccc"),
        upper and sounds.count(b"CCC"),
        len(data) - len(data.translate(None, _RARE)),
        digits,
        digits and cases.count(b"000"),
        digits and words.count(b".0"),
        digits and words.count(b"a0"),
        signs - repeated,
        repeated,
        signs and cases.count(b" ."),
        blanks,
        tabs,
        tabs and cases.count(b" t") + cases.count(b"t "),
        line_ends,
        more and others.count(b"c"),
    )


def _repeated_signs(data: bytes, signs: int) -> int:
    """Return the number of signs that equal the one before: all bytes are compared at once, as a number."""
    only_signs = data.translate(_SIGNS)
    value = int.from_bytes(only_signs)
    alike = (value ^ value >> 8).to_bytes(len(only_signs)).count(0)
    ends_of_runs = data.translate(_IS_SIGN).count(b".a")
    return alike - (len(data) - signs - ends_of_runs)


def _scripts(data: bytes) -> Iterator[tuple[int, _Rate]]:
    """Yield the number of characters of each script, and its rate."""
    leads = data.translate(None, _NOT_FIRST)
    for first, pattern, rate in _SELDOM.values():
        if any(lead in leads for lead in first):
            yield len(pattern.findall(data)), rate
    for lead, scripts in _OF_PAIRS.items():
        left = leads.count(lead)
        if not left:
            continue
        pairs = data.translate(_MERGED[lead])
        for script in scripts.values():
            count = pairs.count(bytes((lead, script.first)))
            yield count, script.rate
            left -= count
            if not left:
                break
        yield left, _RESTS[lead][1]
    yield from _scripts_of_leads(leads)


def _scripts_of_leads(leads: bytes) -> Iterator[tuple[int, _Rate]]:
    leads = leads.translate(_MERGED_LEADS, bytes(_OF_PAIRS))
    while leads:
        script = leads[:1]
        others = leads.translate(None, script)
        yield len(leads) - len(others), _BY_LEAD.get(script[0], _UNKNOWN)
        leads = others


def _merging(scripts: Mapping[str, _Script]) -> bytes:
    """Return a table that puts the first byte of a script in the place of all of its bytes."""
    table = bytearray(range(256))
    for script in scripts.values():
        table[script.first : script.last + 1] = bytes((script.first,)) * (script.last + 1 - script.first)
    return bytes(table)


_UNKNOWN = _OF_LEADS["emoji and all beyond"].rate
"""The dearest, for bytes that are no UTF-8."""
_MERGED_LEADS = _merging(_OF_LEADS)
_MERGED = {lead: _merging(scripts) for lead, scripts in _OF_PAIRS.items()}
_BY_LEAD = {script.first: script.rate for script in _OF_LEADS.values()}
