"""Reads the width and height of an image from the bytes that it begins with.

PNG: https://www.w3.org/TR/png-3/#11IHDR. GIF: https://www.w3.org/Graphics/GIF/spec-gif89a.txt, sections 18 to 20.
JPEG: ITU T.81, annex B. WebP: https://developers.google.com/speed/webp/docs/riff_container.
"""

import struct
from typing import NamedTuple

_PNG = b"\x89PNG\r\n\x1a\n"
_MARK = 0xFF
"""The byte before each marker of JPEG."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG that begin a frame, which has the size."""
_BARE = frozenset(range(0xD0, 0xD9)) | {0x01}
"""Markers of JPEG that have no length."""

_SCREEN_OF_GIF, _HAS_COLORS = 13, 0x80
"""The bytes before the colors of a GIF, and the flag that it has some."""
_EXTENSION, _IMAGE = 0x21, 0x2C
"""The bytes before each extension and each image of a GIF."""


class Size(NamedTuple):
    """Pixels of an image."""

    width: int
    height: int


def size_of(start: bytes) -> Size | None:
    """Return the size of an image by its first bytes; None where these do not tell it."""
    try:
        size = _size(start)
    except (struct.error, IndexError):
        return None
    return size if size is not None and size.width > 0 and size.height > 0 else None


def _size(start: bytes) -> Size | None:
    if start.startswith(_PNG):
        return Size(*struct.unpack_from(">II", start, 16))
    if start.startswith((b"GIF87a", b"GIF89a")):
        return _of_gif(start)
    if start.startswith(b"\xff\xd8"):
        return _of_jpeg(start)
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return _of_webp(start)
    return None


def _of_gif(start: bytes) -> Size | None:
    """Return the size of the screen, or of the first image where that is larger: readers differ on which they take."""
    width, height, flags = struct.unpack_from("<HHB", start, 6)
    place = _SCREEN_OF_GIF + (3 << (flags & 7) + 1 if flags & _HAS_COLORS else 0)
    while start[place] == _EXTENSION:
        place += 2
        while start[place]:
            place += 1 + start[place]
        place += 1
    if start[place] != _IMAGE:
        return None
    left, top, of_image, high = struct.unpack_from("<HHHH", start, place + 1)
    return Size(max(width, left + of_image), max(height, top + high))


def _of_jpeg(start: bytes) -> Size | None:
    place = 2
    while start[place] == _MARK:
        marker = start[place + 1]
        if marker == _MARK or marker in _BARE:
            place += 1 if marker == _MARK else 2
            continue
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", start, place + 5)
            return Size(width, height)
        place += 2 + struct.unpack_from(">H", start, place + 2)[0]
    return None


def _of_webp(start: bytes) -> Size | None:
    kind = start[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", start, 26)
        return Size(width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", start, 21)
        return Size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8X":
        width, width_high, height, height_high = struct.unpack_from("<HBHB", start, 24)
        return Size((width_high << 16 | width) + 1, (height_high << 16 | height) + 1)
    return None
