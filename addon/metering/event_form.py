"""The form of the events that continue a text: most of a response are the same but for that, and need not be parsed.

Beside the text, the number of an event and its padding may differ, as in OpenAI's streams
(https://platform.openai.com/docs/api-reference/responses-streaming, `sequence_number` and `obfuscation`).
"""

_NUMBER = b'"sequence_number":'
_PADDING = b'"obfuscation":"'
_DIGITS = b"0123456789"


class EventForm:
    """The bytes around the text of an event. Without escapes, a string goes from one quotation mark to the next."""

    def __init__(self, before: bytes, after: bytes) -> None:
        """Take what stands before the text, up to its quotation mark, and behind it, from that on."""
        start, number, rest = before.partition(_NUMBER)
        self._before = start + number
        self._behind_number = rest.lstrip(_DIGITS) if number else b""
        start, padding, rest = after.partition(_PADDING)
        self._after = start + padding
        self._behind_padding = rest[rest.find(b'"') :] if padding else b""

    def text_in(self, event: bytes) -> bytes | None:
        """Return the text of an event that has this form; None for any other."""
        if b"\\" in event or not event.startswith(self._before):
            return None
        start = len(self._before)
        if self._behind_number:
            end = event.find(self._behind_number, start)
            if end < 0 or not event[start:end].isdigit():
                return None
            start = end + len(self._behind_number)
        end = event.find(b'"', start)
        if not event.startswith(self._after, end):
            return None
        behind = end + len(self._after)
        if self._behind_padding:
            behind = event.find(b'"', behind)
        text = event[start:end]
        return text if event[behind:] == self._behind_padding and (text.isascii() or _is_utf8(text)) else None


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def form_of(event: bytes, text: str) -> EventForm | None:
    """Return the form of an event that shows one text; None where it is not certain where that stands."""
    quoted = b'"%b"' % text.encode("utf-8", "replace")
    place = event.find(quoted)
    if not text or b"\\" in event or place < 0 or event.rfind(quoted) != place:
        return None
    return EventForm(event[: place + 1], event[place + len(quoted) - 1 :])
