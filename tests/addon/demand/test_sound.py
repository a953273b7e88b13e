import struct

import pytest

from addon.demand.sound import audio_tokens, seconds_of


def wave(rate: int, told: int | None = None, *, form: int = 1, block: int = 2, bits: int = 16) -> bytes:
    """Return the start of a file with `rate` bytes a second, which tells another rate."""
    told = rate if told is None else told
    return b"RIFF" + struct.pack("<I4s4sIHHIIHH", 0, b"WAVE", b"fmt ", 16, form, 1, rate // 2, told, block, bits)


def flac(rate: int, total: int) -> bytes:
    return b"fLaC\0\0\0\x22" + b"\x10\0" * 2 + b"\0" * 6 + struct.pack(">Q", rate << 44 | 15 << 36 | total)


@pytest.mark.parametrize(
    ("start", "form", "size", "seconds"),
    [
        (wave(48_000), "wav", 480_000, 10),
        (wave(48_000), "", 480_001, 11),
        (wave(0), "wav", 7500, 10),
        (wave(48_000, 4_000_000_000), "wav", 480_000, 10),
        (wave(48_000, 24_000), "wav", 480_000, 20),
        (wave(48_000, 4_000_000_000, block=65_535), "wav", 480_000, 10),
        (wave(48_000, 4_000_000_000, block=65_535, form=3), "wav", 480_000, 10),
        (wave(48_000, 4_000_000_000, form=0x11), "wav", 7500, 10),
        (wave(200), "wav", 7500, 38),
        (flac(16_000, 16_000 * 100), "flac", 7500, 100),
        (flac(16_000, 16_001), "", 75, 2),
        (flac(16_000, 0), "flac", 7500, 10),
        (flac(16_000, 16_000), "flac", 7500, 10),
        (flac(0, 16_000), "flac", 7500, 10),
        (flac(16_000, 16_000 * 100)[:20], "flac", 7500, 10),
        (wave(48_000)[:20], "wav", 7500, 10),
        (b"ID3", "", 10_000, 10),
        (b"", "mp3", 10_000, 10),
        (b"OggS", "", 7500, 10),
        (b"", "pcm16", 480_000, 10),
        (b"", "g711_ulaw", 80_000, 10),
        (b"", "", 0, 0),
    ],
)
def test_the_length_follows_from_the_rate_of_the_format(start: bytes, form: str, size: int, seconds: int) -> None:
    assert seconds_of(start, size, form) == seconds


def test_openais_models_have_ten_tokens_a_second() -> None:
    assert audio_tokens(6, ["gpt-audio"]) == 60
    assert audio_tokens(6, ["gpt-audio", "gemini-2.5-flash"]) == 192
