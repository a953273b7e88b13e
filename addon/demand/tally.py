"""Adds up the input of one request, as its parts are found in its body."""

from collections.abc import Mapping, Sequence

from addon.demand.counted_texts import LONG, counted
from addon.demand.cut import Cut
from addon.demand.texts import BLOCK, TextBound, price_of, tokens_of
from addon.demand.vocabularies import Vocabulary, vocabulary_of
from store.ledger.usage import Units
from store.request import NO_UNITS

_PARTS_OF_LITERALS = 2
_HOUR = "1h"


class Tally:
    """The most input of a request to one of several models: a router may choose."""

    def __init__(self, models: Sequence[str], *, is_usual: bool = False) -> None:
        """`is_usual` tells whether the request has nothing that few have."""
        self.models = models
        self.is_usual = is_usual
        self.vocabulary: Vocabulary = _dearest(models) if len(models) > 1 else vocabulary_of(models[0])
        self.refers = False
        """True if some of the input is not in the body."""
        self._texts: list[bytes] = []
        """The texts that are not counted yet."""
        self._long: TextBound | None = None
        """The count of the others; None without any."""
        self._of_texts: int | None = None
        """The tokens of all texts; None where some came since they were counted."""
        self._tokens = 0
        self._audio_tokens = 0
        self._cached_for = ""

    @property
    def tokens(self) -> int:
        """All input tokens at most."""
        if self._of_texts is None:
            self._of_texts = self._count()
        return self._of_texts + self._tokens + self._audio_tokens

    def _count(self) -> int:
        texts = b"".join(self._texts)
        if self._long is None and len(texts) <= BLOCK:
            return tokens_of(price_of(texts, self.vocabulary), len(texts), self.vocabulary)
        self._texts.clear()
        self._long = self._long or TextBound()
        self._long.feed(texts)
        return self._long.tokens(self.vocabulary)

    @property
    def units(self) -> Units:
        """The parts of the input that have prices of their own."""
        if not (self._audio_tokens or self._cached_for):
            return NO_UNITS
        parts = {"input_audio_tokens": self._audio_tokens} if self._audio_tokens else {}
        if not self._cached_for:
            return parts
        of_life = "cache_write_1h_tokens" if self._cached_for == _HOUR else "cache_write_5m_tokens"
        return {**parts, "cache_write_tokens": self.tokens, of_life: self.tokens}

    def add_text(self, text: str | Cut) -> None:
        """Add a text."""
        if isinstance(text, str):
            self.add_bytes(text.encode("utf-8", "replace"))
        else:
            self._add_count(text.bound)

    def add_bytes(self, text: bytes) -> None:
        """Add a text in UTF-8."""
        self._of_texts = None
        if len(text) < LONG:
            self._texts += (text, b"\n")
        else:
            self._add_count(counted(text))

    def _add_count(self, bound: TextBound) -> None:
        self._of_texts = None
        self._long = self._long or TextBound()
        self._long.add(bound)
        self._texts.append(b"\n")

    def add_tokens(self, tokens: int) -> None:
        """Add tokens whose number is known."""
        self._tokens += tokens

    def add_audio(self, tokens: int) -> None:
        """Add tokens of audio."""
        self._audio_tokens += tokens

    def add_json(self, value: object) -> None:
        """Add all texts and names in a value of JSON, and its signs."""
        match value:
            case str() | Cut():
                self.add_text(value)
            case list():
                for item in value:
                    self.add_json(item)
            case dict():
                for name, item in value.items():
                    self.add_text(name)
                    self.add_json(item)
            case int() | float():
                self.add_text(str(value))
        self.add_tokens(_PARTS_OF_LITERALS)

    def add_cache_control(self, part: Mapping[str, object]) -> None:
        """Note that a part of the input is to be written to a cache, if it says so, as Anthropic's do."""
        control = part.get("cache_control")
        if isinstance(control, dict):
            is_long = control.get("ttl") == _HOUR or self._cached_for == _HOUR
            self._cached_for = _HOUR if is_long else "5m"


def _dearest(models: Sequence[str]) -> Vocabulary:
    return max(map(vocabulary_of, models), key=lambda one: one.value)
