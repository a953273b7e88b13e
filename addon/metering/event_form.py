"""The form of the events that continue a text. Most events of a response differ in their texts alone.

The text of such an event is found without parsing it. Beside the texts their numbers may differ, and the padding of
OpenAI's events (https://platform.openai.com/docs/api-reference/chat-streaming, `obfuscation`).
"""

import re

_PADDING = re.compile(rb'("obfuscation" ?: ?")[^"]*')
_DIGITS = b"0123456789"
_ZEROED = bytes(ord("0") if byte in _DIGITS else byte for byte in range(256))
"""Puts a zero in the place of each digit."""
_NO_DIGITS = bytes(set(range(256)) - set(_DIGITS))

_LONGEST = 4 * 1024
"""Bytes of an event beside its text: a form keeps them for as long as a response runs."""


class EventForm:
    """All of an event but one of its texts. Without escapes, a string ends at the next quotation mark."""

    def __init__(self, before: bytes, after: bytes) -> None:
        """Take what stands before the text, up to its quotation mark, and behind it, from that on."""
        self._before, self._after = before, after
        self._near = before[len(before.rstrip(_NO_DIGITS)) :]
        """The end of what stands before it, which has no number."""
        self._steady_before = _steady(before.removesuffix(self._near))
        self._zeroed_after = after.translate(_ZEROED)
        self._steady_after = _steady(after)

    def text_in(self, event: bytes) -> bytes | None:
        """Return the text of an event that has this form; None for any other."""
        start = len(self._before) if event.startswith(self._before) else self._start_in(event)
        if start < 0 or b"\\" in event:
            return None
        end = event.find(b'"', start)
        text, after = event[start:end], event[end:]
        if not self._is_behind(after):
            return None
        return text if text.isascii() or _is_utf8(text) else None

    def _is_behind(self, after: bytes) -> bool:
        """Tell whether this may stand behind the text. Most numbers keep their length, and to leave them out costs."""
        if after == self._after or after.translate(_ZEROED) == self._zeroed_after:
            return True
        return _steady(after) == self._steady_after

    def _start_in(self, event: bytes) -> int:
        """Return the place of the text, where the numbers before it are others; below 0 for any other event."""
        before, near, _ = event.partition(self._near)
        return len(before) + len(near) if near and _steady(before) == self._steady_before else -1


def form_of(event: bytes, text: str) -> EventForm | None:
    """Return the form of an event that shows one text; None where it is not certain where that stands."""
    quoted = b'"%b"' % text.encode("utf-8", "replace")
    place = event.find(quoted)
    if not text or b"\\" in event or place < 0 or event.rfind(quoted) != place:
        return None
    if len(event) - len(quoted) > _LONGEST:
        return None
    return EventForm(event[: place + 1], event[place + len(quoted) - 1 :])


def _steady(part: bytes) -> bytes:
    """Return a part of an event without what may differ: its digits, and its padding."""
    without = part.translate(None, _DIGITS)
    return _PADDING.sub(rb"\1", without) if b"obfuscation" in without else without


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
