"""The length of audio, by the bytes that it begins with and their number."""

import struct
from collections.abc import Iterable

_TOKENS_OF_OPENAI, _TOKENS_OF_OTHERS = 10, 32
"""Tokens of a second of input: OpenAI has one for 100 ms; of the others Gemini has the most
(https://ai.google.dev/gemini-api/docs/audio)."""

_LEAST_OF_MP3, _LEAST = 1000, 750
"""Bytes of a second at least: MP3 at 8 kbit/s, and speech in Opus at 6 kbit/s."""
_FORMAT_IN_WAVE = 20
"""Place of the format in a wave file that begins with it, as nearly all do."""
_PCM, _FLOAT, _A_LAW, _MU_LAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_TOTAL_IN_FLAC = 18
"""Place of the rate and the number of samples in a FLAC file (RFC 9639, section 8.2)."""


def seconds_of(start: bytes, size: int, form: str = "") -> int:
    """Return the most seconds of audio in a file of `size` bytes. `form` is its format, as the request names it."""
    rate = _LEAST_OF_MP3 if form in {"mp3", "mpeg"} or start.startswith((b"ID3", b"\xff\xfb", b"\xff\xf3")) else _LEAST
    if start.startswith(b"RIFF"):
        rate = _rate_of_wave(start) or rate
    elif form in {"pcm", "pcm16"}:
        rate = 48_000
    elif form in {"g711_ulaw", "g711_alaw"}:
        rate = 8000
    return max(-(-size // rate), _seconds_of_flac(start))


def _rate_of_wave(start: bytes) -> int:
    """Return the bytes of a second, which readers take from different fields: the fewest; 0 where they do not tell."""
    if start[8:16] != b"WAVEfmt " or len(start) < _FORMAT_IN_WAVE + 16:
        return 0
    form, channels, samples, rate, block, bits = struct.unpack_from("<HHIIHH", start, _FORMAT_IN_WAVE)
    if form not in {_PCM, _FLOAT, _A_LAW, _MU_LAW, _EXTENSIBLE}:
        return 0
    rates: tuple[int, ...] = (rate, samples * block, samples * channels * -(-bits // 8))
    return min(rates)


def _seconds_of_flac(start: bytes) -> int:
    """Return the seconds that a FLAC file says it has, as silence takes hardly any bytes; 0 for any other file."""
    if not start.startswith(b"fLaC") or len(start) < _TOTAL_IN_FLAC + 8:
        return 0
    packed = int.from_bytes(start[_TOTAL_IN_FLAC : _TOTAL_IN_FLAC + 8])
    rate, total = packed >> 44, packed & (1 << 36) - 1
    return -(-total // rate) if rate else 0


def audio_tokens(seconds: int, models: Iterable[str]) -> int:
    """Return the most tokens of audio in the input of one of these models."""
    is_openai = all(model.lower().rpartition("/")[2].startswith("gpt-") for model in models)
    return seconds * (_TOKENS_OF_OPENAI if is_openai else _TOKENS_OF_OTHERS)
