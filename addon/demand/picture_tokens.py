"""The tokens of an image in the input, by the formulas that providers publish.

OpenAI: https://platform.openai.com/docs/guides/images-vision#calculating-costs. Anthropic:
https://platform.claude.com/docs/en/build-with-claude/vision#evaluate-image-size. Google:
https://ai.google.dev/gemini-api/docs/tokens#multimodal-tokens.
"""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from addon.demand.picture_size import Size


class _Tiles(NamedTuple):
    """OpenAI's older way: an amount for each image, and one for each square of 512 pixels."""

    base: int
    tile: int


class _Patches(NamedTuple):
    """OpenAI's newer way: squares of 32 pixels, at most so many, and a percentage."""

    most: int
    most_original: int
    percent: int


_TILE, _SHORT_SIDE, _LONG_SIDE = 512, 768, 2048
_PATCH = 32
_LOW_PATCHES = 256

_OPENAI: Mapping[str, _Tiles | _Patches] = {
    "gpt-4o-mini": _Tiles(2833, 5667),
    "gpt-image": _Tiles(65 + 6144, 129),  # with what `input_fidelity` may add
    "gpt-4.1-mini": _Patches(1536, 1536, 162),
    "gpt-4.1-nano": _Patches(1536, 1536, 246),
    "gpt-5-mini": _Patches(1536, 1536, 162),
    "gpt-5-nano": _Patches(1536, 1536, 246),
    "o4-mini": _Patches(1536, 1536, 172),
    "gpt-4": _Tiles(85, 170),
    "chatgpt-4o": _Tiles(85, 170),
    "gpt-5-": _Tiles(70, 140),
    "gpt-5.1": _Tiles(70, 140),
    "gpt-5.2": _Patches(1536, 1536, 120),
    "gpt-5.3": _Patches(1536, 1536, 120),
    "o1": _Tiles(75, 150),
    "o3": _Tiles(75, 150),
    "computer-use": _Tiles(65, 129),
}
"""By the beginning of a model's name; of several the first holds."""
_OPENAI_NEWEST = _Patches(2500, 10_000, 120)
_IS_OPENAI = re.compile(r"(gpt-|chatgpt|o[134]\b|computer-use)")

_CLAUDE_PIXELS = 750
"""Pixels of a token of Claude's."""
_CLAUDE_MOST, _CLAUDE_MOST_NEWEST = 1600, 4784
_OLD_CLAUDE = re.compile(r"claude-(?:[123]\b|(?:opus|sonnet|haiku)-(?:4-[0-6]\b|4\.[0-6]|4-20|4$|4@))")

_GEMINI_TILE, _GEMINI_WHOLE, _GEMINI_3 = 258, 384, 2240
_GEMINI_UNKNOWN = 12 * _GEMINI_TILE
"""Tiles of 768 pixels that an image of four megapixels has."""

_OTHER_PATCH, _OTHER_MOST = 28, 4096
"""Squares of Qwen, Mistral, Kimi and GLM; others have fewer tokens. The most is what their hosts allow by default."""


def picture_tokens(model: str, size: Size | None, detail: str) -> int:
    """Return the most tokens that a model needs for an image; the most of any image, where the size is None."""
    name = model.lower().rpartition("/")[2]
    if "claude" in name:
        return _of_claude(name, size)
    if "gemini" in name:
        return _of_gemini(name, size)
    if _IS_OPENAI.match(name.removeprefix("openai.")):
        return _of_openai(name.removeprefix("openai."), size, detail)
    return _OTHER_MOST if size is None else min(_squares(size, _OTHER_PATCH) + _OTHER_PATCH, _OTHER_MOST)


def _of_openai(name: str, size: Size | None, detail: str) -> int:
    terms: _Tiles | _Patches | None = _Tiles(70, 140) if name == "gpt-5" else None
    terms = terms or next((terms for start, terms in _OPENAI.items() if name.startswith(start)), _OPENAI_NEWEST)
    if isinstance(terms, _Tiles):
        return terms.base + (0 if detail == "low" else terms.tile * _tiles(size))
    most = terms.most if detail == "high" else terms.most_original
    if detail == "low":
        most = min(most, _LOW_PATCHES) if terms is _OPENAI_NEWEST else most
    patches = most if size is None else min(_squares(size, _PATCH), most)
    return -(-patches * terms.percent // 100)


def _tiles(size: Size | None) -> int:
    """Return the squares of an image that is scaled to at most 2048 pixels, then to a short side of 768 at most."""
    if size is None:
        return math.ceil(_LONG_SIDE / _TILE) * math.ceil(_SHORT_SIDE / _TILE)
    scale = min(1.0, _LONG_SIDE / max(size))
    scale = min(scale, _SHORT_SIDE / min(size))
    return math.ceil(size.width * scale / _TILE) * math.ceil(size.height * scale / _TILE)


def _squares(size: Size, side: int) -> int:
    return math.ceil(size.width / side) * math.ceil(size.height / side)


def _of_claude(name: str, size: Size | None) -> int:
    most = _CLAUDE_MOST if _OLD_CLAUDE.search(name) else _CLAUDE_MOST_NEWEST
    return most if size is None else min(math.ceil(size.width * size.height / _CLAUDE_PIXELS), most)


def _of_gemini(name: str, size: Size | None) -> int:
    if "gemini-2" not in name and "gemini-1" not in name:
        return _GEMINI_3
    if size is None:
        return _GEMINI_UNKNOWN
    if max(size) <= _GEMINI_WHOLE:
        return _GEMINI_TILE
    unit = min(768, max(256, math.floor(min(size) / 1.5)))
    return _GEMINI_TILE * _squares(size, unit)
