"""Reads fields of JSON of unknown form: a field of an unexpected type counts as absent."""

import json
from collections.abc import Sequence

from pydantic_core import from_json

type Fields = dict[str, object]

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_LONG_TEXT = 80
_LONG_LIST = 10
_LONG = 300


def parse(data: bytes, *, cut: bool = False) -> Fields:
    """Return a JSON object; an empty one for anything else. With `cut`, the object may end anywhere.

    Bytes that are no UTF-8 are replaced, as one in a text hides nothing else.
    """
    try:
        value = _parsed(data, cut=cut)
    except ValueError:
        text = data.decode(errors="replace")
        if _REPLACEMENT not in text:
            return {}
        try:
            value = _parsed(text, cut=cut)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def parse_all(documents: Sequence[bytes]) -> list[Fields]:
    """Return the JSON objects in documents as `parse` does: parsed at once, which takes a fraction of the time."""
    try:
        values = from_json(b"[%b]" % b",".join(documents))
    except ValueError:
        return [parse(document) for document in documents]
    return [value for value in values if isinstance(value, dict)]


def _parsed(data: bytes | str, *, cut: bool) -> object:
    return from_json(data, allow_partial="trailing-strings" if cut else "off")


def fields(value: object, name: str | None = None) -> Fields:
    """Return an object, or the object in its field `name`; an empty one for anything else."""
    if name is not None:
        value = fields(value).get(name)
    return value if isinstance(value, dict) else {}


def items(value: Fields, name: str) -> list[object]:
    """Return the list in a field, or an empty one."""
    found = value.get(name)
    return found if isinstance(found, list) else []


def text(value: Fields, name: str) -> str:
    """Return the text in a field, or an empty one."""
    found = value.get(name)
    return found if isinstance(found, str) else ""


def number(value: Fields, *names: str) -> int | None:
    """Return the integer in the first of these fields that holds one."""
    found = (value.get(name) for name in names)
    return next((one for one in found if isinstance(one, int) and not isinstance(one, bool)), None)


def brief(value: object) -> str:
    """Format any JSON in one line, with long texts, lists and objects cut."""
    return shortened(json.dumps(_with_short_parts(value), ensure_ascii=False), _LONG)


def shortened(long: str, length: int) -> str:
    """Return a text, cut if it is longer than `length` characters."""
    return long if len(long) <= length else f"{long[:length]}…"


def _with_short_parts(value: object) -> object:
    match value:
        case str():
            return shortened(value, _LONG_TEXT)
        case list():
            kept = [_with_short_parts(item) for item in value[:_LONG_LIST]]
            return kept if len(value) <= _LONG_LIST else [*kept, "…"]
        case dict():
            return {
                shortened(name, _LONG_TEXT): _with_short_parts(item) for name, item in list(value.items())[:_LONG_LIST]
            }
    return value
