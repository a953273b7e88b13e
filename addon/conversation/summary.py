"""The model and the usage of a request and its answer, without putting the conversation together."""

import re
from typing import NamedTuple

from addon.conversation.fields import Fields, fields, parse, text
from addon.conversation.usage import Usage, usage_of
from addon.sse import Decoder

_USAGE = re.compile(rb'"usage"\s*:\s*\{')


class Summary(NamedTuple):
    """What a body tells about itself; an empty text and None are unknown."""

    model: str
    usage: Usage | None


NOTHING = Summary("", None)


def summary_of(data: bytes, *, is_stream: bool) -> Summary:
    """Return what a request or an answer tells, as far as it goes. Any bytes will do."""
    if is_stream:
        return _of_stream(data)
    body = parse(data, cut=True)
    return Summary(text(body, "model"), usage_of(body))


def _of_stream(data: bytes) -> Summary:
    """Look into the first event and into those with a usage; the last one holds."""
    summary = NOTHING
    for event in Decoder().feed(data):
        if not summary.model or _USAGE.search(event.data):
            answer = _answer_in(parse(event.data))
            summary = Summary(summary.model or text(answer, "model"), usage_of(answer) or summary.usage)
    return summary


def _answer_in(event: Fields) -> Fields:
    return fields(event, "response") or event
