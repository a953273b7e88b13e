"""The outer fields of JSON that may be of any size, in a bounded time: what is large is read at its edges alone.

So is what the parser does not take for half of a surrogate pair in a text, which upstreams send that cut one there.
"""

import re
from collections.abc import Iterator

from addon.protocol.excerpt import EDGE, Excerpt
from addon.protocol.json_fields import Fields, fields, parse

MAX_EVENT = 4 * EDGE
"""Bytes of an event that is parsed as a whole: 17 ms where it is made to be slow."""

_TRIES = 16
"""How often a name is looked for from the end."""
_MAX_TRIED = 3 * EDGE
"""Bytes that are parsed for that in all."""
_KEYS = ("usage", "model", "service_tier")
_RESPONSE = "response"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def fields_of(document: Excerpt, *, is_whole: bool) -> Fields:
    """Return the top-level fields of a JSON object: all of a small one, of a large one what the excerpt tells.

    Of a large one that is `usage`, `model` and `service_tier` near its end, and what stands whole at its start. Of one
    that is not whole it is the start alone: nothing shows what is top-level near an end that was cut.
    """
    start = document.start()
    if document.size <= EDGE:
        found = parse(start)
        if found or not (is_whole and _SURROGATE.search(start)):
            return found or _first_fields(start)
    last = _last_fields(document.end()) if is_whole else {}
    if {"usage", "model"} <= last.keys():
        return last  # the start of a list of vectors takes 2 ms
    return {**_first_fields(start), **last}


def fields_of_event(data: bytes) -> Fields:
    """Return the fields of an event or a message, in the same way; of its field `response` too, if it ends with it."""
    found = parse(data) if len(data) <= MAX_EVENT else {}
    if found or not (len(data) > MAX_EVENT or _SURROGATE.search(data)):
        return found
    first, end = _opened(data[:EDGE]), data[-EDGE:].rstrip()
    if not first:
        return {}
    name, cut = first.popitem()
    if name != _RESPONSE:
        return {**first, **_last_fields(end)}
    return {**first, name: {**_without_last(fields(cut)), **_last_fields(end.removesuffix(b"}"))}}


def _first_fields(start: bytes) -> Fields:
    """Return the fields that stand whole at the start of an object; the last one may be cut."""
    return _without_last(_opened(start))


def _opened(start: bytes) -> Fields:
    """Return the start of an object as far as it goes."""
    return parse(start, cut=True) or parse(_SURROGATE.split(start, 1)[0], cut=True)


def _without_last(found: Fields) -> Fields:
    return dict(list(found.items())[:-1])


def _last_fields(end: bytes) -> Fields:
    """Return the fields from one of _KEYS on, where all that follows it shows that it is a key of the outermost object.

    Only then what follows, with a brace before it, is an object. In a text the name's quotation marks are escaped.
    """
    found: Fields = {}
    room = _MAX_TRIED
    for key in _KEYS:
        for rest in () if key in found else _rests(key, end):
            room -= len(rest)
            fitting = parse(rest) if room >= 0 else {}
            if fitting:
                found = {**fitting, **found}
                break
    return found


def _rests(key: str, end: bytes) -> Iterator[bytes]:
    """Yield what follows a key, as an object, from its last place to its first."""
    name, place = f'"{key}"'.encode(), len(end)
    for _ in range(_TRIES):
        place = end.rfind(name, 0, place)
        if place < 0:
            return
        if not end.endswith(b"\\", 0, place):
            yield b"{" + end[place:]
