"""Adds images, audio and files that stand in a body, or that it refers to, to a tally."""

import binascii
import re
from typing import NamedTuple

from addon.demand.cut import TEXTS, Cut
from addon.demand.picture_size import size_of
from addon.demand.picture_tokens import picture_tokens
from addon.demand.sound import audio_tokens, seconds_of
from addon.demand.tally import Tally

_START = 256 * 1024
"""Bytes of a file that are decoded for its size: those of JPEG may stand behind a preview."""
_DATA_URL = re.compile(r"data:([\w.+/-]*)(?:;[\w.=+\"/-]*)*,", re.IGNORECASE)


class _File(NamedTuple):
    """A file in base64: its media type, the text, and the place in it where the data begins."""

    media_type: str
    text: str | Cut
    place: int = 0

    @property
    def size(self) -> int:
        """Its bytes, at most."""
        length = self.text.size if isinstance(self.text, Cut) else len(self.text)
        return max(length - self.place, 0) * 3 // 4

    def start(self, most: int = _START) -> bytes:
        """Return its first bytes, as far as they are kept."""
        text = self.text.start if isinstance(self.text, Cut) else self.text
        return _decoded(text[self.place : self.place + most])


def add_picture(tally: Tally, source: object, detail: str = "") -> None:
    """Add an image: a URL, a data URL, base64, or its bytes. Where nothing tells its size, it counts as the largest."""
    found = _file(source)
    start = source[:_START] if isinstance(source, bytes) else found.start() if found is not None else b""
    size = size_of(start)
    tally.add_tokens(max(picture_tokens(model, size, detail) for model in tally.models))


def add_audio(tally: Tally, source: object, form: str) -> None:
    """Add audio of a format: base64, or a data URL. Audio at a URL is not in the body."""
    found = _file(source)
    if found is None:
        tally.refers = True
        return
    seconds = seconds_of(found.start(1024), found.size, form)
    tally.add_audio(audio_tokens(seconds, tally.models))


def add_file(tally: Tally, source: object, media_type: str = "") -> None:
    """Add a file. Its text counts where it is one; nothing bounds a document but the model's context window."""
    found = _file(source, media_type)
    if found is None or not found.media_type.startswith("text/"):
        tally.refers = True
    elif isinstance(found.text, Cut):
        tally.add_text(found.text)  # in base64, which has more tokens
    else:
        tally.add_bytes(found.start(len(found.text)))


def _file(source: object, media_type: str = "") -> _File | None:
    """Return a file that stands in the body; None for a URL."""
    if not isinstance(source, TEXTS):
        return None
    start = source.start if isinstance(source, Cut) else source[:1024]
    if url := _DATA_URL.match(start):
        return _File(url[1].lower(), source, url.end())
    return None if start.startswith(("http:", "https:", "gs:", "file")) else _File(media_type, source)


def _decoded(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text[: len(text) // 4 * 4])
    except ValueError:
        return b""
