"""The outer fields of JSON of any size, in bounded time: of large JSON only the head and the tail are parsed.

Lone surrogates are handled too: upstreams that cut a text within a surrogate pair send one, and the parser rejects it.
"""

import re
from collections.abc import Iterator

from addon.protocol.head_and_tail import EDGE, HeadAndTail
from addon.protocol.json_fields import Fields, fields, parse

MAX_WHOLE = 4 * EDGE
"""Bytes of an event that is parsed as a whole. The worst case takes 17 ms."""

_TRIES = 16
"""Occurrences of a name that are tried, from the end."""
_MAX_TRIED = 3 * EDGE
"""Bytes that these tries may parse together."""
_KEYS = ("usage", "model", "service_tier")
_RESPONSE = "response"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def fields_of(document: HeadAndTail, *, is_whole: bool) -> Fields:
    """Return the top-level fields of a JSON object: all of a small one, those that can be found of a large one.

    Of a large object these are the complete fields at its start, and `usage`, `model` and `service_tier` near its end.
    Of an object that was cut (`is_whole` is False) only its start is read: what is top-level near its end is unknown.
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


def fields_of_event(data: bytes, *, is_cut: bool = False) -> Fields:
    """Return the fields of an event or a message likewise; also those of its field `response`, if that is the last.

    Where `is_cut`, the data is the first and the last EDGE bytes of a larger event.
    """
    is_large = is_cut or len(data) > MAX_WHOLE
    found = {} if is_large else parse(data)
    if found or not (is_large or _SURROGATE.search(data)):
        return found
    first, end = _parsed_start(data[:EDGE]), data[-EDGE:].rstrip()
    if not first:
        return {}
    name, cut = first.popitem()
    if name != _RESPONSE:
        return {**first, **_last_fields(end)}
    return {**first, name: {**_without_last(fields(cut)), **_last_fields(end.removesuffix(b"}"))}}


def start_of_event(data: bytes) -> Fields:
    """Return the fields at the start of an event: all of a small one; the last one, and what is in it, may be cut."""
    return parse(data) if len(data) <= EDGE else _parsed_start(data[:EDGE])


def _first_fields(start: bytes) -> Fields:
    """Return the complete fields at the start of an object; the last one may be cut and is left out."""
    return _without_last(_parsed_start(start))


def _parsed_start(start: bytes) -> Fields:
    """Parse the start of an object as far as possible."""
    return parse(start, cut=True) or parse(_SURROGATE.split(start, 1)[0], cut=True)


def _without_last(found: Fields) -> Fields:
    return dict(list(found.items())[:-1])


def _last_fields(end: bytes) -> Fields:
    """Return the fields from one of _KEYS on, where the rest of the text proves that the key is top-level.

    It is if the rest, with a brace before it, is an object. Within a text the quotation marks of a name are escaped.
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
    """Yield the text from a key on, as an object, from the key's last occurrence to its first."""
    name, place = f'"{key}"'.encode(), len(end)
    for _ in range(_TRIES):
        place = end.rfind(name, 0, place)
        if place < 0:
            return
        if not end.endswith(b"\\", 0, place):
            yield b"{" + end[place:]
