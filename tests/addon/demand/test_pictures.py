import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.demand.requests import PICTURES, Picture, png

from addon.demand.picture_size import Size, size_of
from addon.demand.picture_tokens import picture_tokens

SIZE = Size(1234, 567)
_SIZES = struct.pack(">HH", SIZE.height, SIZE.width)
_EXIF = b"\xff\xe1" + struct.pack(">H", 5000) + b"\0" * 4998
_IMAGE = b"," + struct.pack("<HHHH", 0, 0, *SIZE)
_LOOP = b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"
STARTS = {
    "PNG": base64.b64decode(png(*SIZE).partition(",")[2]),
    "GIF": b"GIF89a" + struct.pack("<HH", *SIZE) + b"\0\0\0" + _IMAGE,
    "animated GIF with colors": b"GIF89a" + struct.pack("<HH", *SIZE) + b"\x91\0\0" + b"\xff" * 12 + _LOOP + _IMAGE,
    "GIF with a larger image": b"GIF87a\x01\0\x01\0\0\0\0" + _IMAGE,
    "GIF with an image aside": b"GIF87a\x01\0\x01\0\0\0\0,"
    + struct.pack("<HHHH", 34, 67, SIZE.width - 34, SIZE.height - 67),
    "GIF with a smaller image": b"GIF89a" + struct.pack("<HH", *SIZE) + b"\0\0\0," + b"\1\0" * 4,
    "JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF" + b"\0" * 10 + b"\xff\xc0\x00\x11\x08" + _SIZES + b"\x03",
    "progressive JPEG with a preview": b"\xff\xd8" + _EXIF + b"\xff\xff\xc2\x00\x11\x08" + _SIZES + b"\x03",
    "lossy WebP": b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", *SIZE),
    "lossless WebP": b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + struct.pack("<I", (SIZE.height - 1) << 14 | SIZE.width - 1),
    "extended WebP": b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0"
    + struct.pack("<HBHB", SIZE.width - 1, 0, SIZE.height - 1, 0),
}


@pytest.mark.parametrize("form", STARTS)
def test_the_first_bytes_tell_the_size(form: str) -> None:
    assert size_of(STARTS[form]) == SIZE


@pytest.mark.parametrize("form", STARTS)
def test_fewer_bytes_tell_no_size(form: str) -> None:
    assert {size_of(STARTS[form][:length]) for length in range(len(STARTS[form]))} <= {None, SIZE}


@given(st.sampled_from([*STARTS.values(), b"", b"<svg"]), st.binary(max_size=40))
def test_any_bytes_are_read(start: bytes, more: bytes) -> None:
    size = size_of(start[:12] + more)
    assert size is None or min(size) > 0


@pytest.mark.parametrize("picture", PICTURES, ids=lambda one: f"{one.model}-{one.width}x{one.height}-{one.detail}")
def test_an_image_has_the_tokens_that_its_provider_names(picture: Picture) -> None:
    tokens = picture_tokens(picture.model, Size(picture.width, picture.height), picture.detail)
    assert picture.tokens <= tokens <= picture.tokens * 1.06  # scaling rounds a side down to whole patches


@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-4.1-mini", "gpt-5.6-sol", "claude-opus-4-8", "claude-sonnet-4-6", "qwen-vl-max", "grok-4"]
)
@pytest.mark.parametrize("detail", ["", "auto", "low", "high"])
@given(width=st.integers(1, 20_000), height=st.integers(1, 20_000))
def test_no_image_has_more_than_one_of_unknown_size(model: str, detail: str, width: int, height: int) -> None:
    assert 0 < picture_tokens(model, Size(width, height), detail) <= picture_tokens(model, None, detail)


def test_a_routers_prefix_changes_nothing() -> None:
    assert picture_tokens("openai/gpt-4o", SIZE, "high") == picture_tokens("gpt-4o", SIZE, "high")
