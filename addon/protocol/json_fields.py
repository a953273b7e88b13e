"""Reading JSON of which nothing is known: a field of another type counts as one that is not there."""

import json

from pydantic_core import from_json

type Fields = dict[str, object]

_LONG_TEXT = 80
_LONG_LIST = 10
_LONG = 300


def parse(data: bytes, *, cut: bool = False) -> Fields:
    """Return a JSON object, as far as it goes if it is `cut`; an empty one for anything else."""
    try:
        value = from_json(data, allow_partial="trailing-strings" if cut else "off")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def fields(value: object, name: str | None = None) -> Fields:
    """Return an object, or the object that stands in its field `name`."""
    if name is not None:
        value = fields(value).get(name)
    return value if isinstance(value, dict) else {}


def items(value: Fields, name: str) -> list[object]:
    """Return the list in a field."""
    found = value.get(name)
    return found if isinstance(found, list) else []


def text(value: Fields, name: str) -> str:
    """Return the text in a field."""
    found = value.get(name)
    return found if isinstance(found, str) else ""


def number(value: Fields, *names: str) -> int | None:
    """Return the whole number in the first of these fields that has one."""
    found = (value.get(name) for name in names)
    return next((one for one in found if isinstance(one, int) and not isinstance(one, bool)), None)


def brief(value: object) -> str:
    """Write any JSON in one line, with what is long in it cut."""
    return shortened(json.dumps(_without_length(value), ensure_ascii=False), _LONG)


def shortened(long: str, length: int) -> str:
    """Cut a text that is longer than `length` characters."""
    return long if len(long) <= length else f"{long[:length]}…"


def _without_length(value: object) -> object:
    match value:
        case str():
            return shortened(value, _LONG_TEXT)
        case list():
            kept = [_without_length(item) for item in value[:_LONG_LIST]]
            return kept if len(value) <= _LONG_LIST else [*kept, "…"]
        case dict():
            return {
                shortened(name, _LONG_TEXT): _without_length(item) for name, item in list(value.items())[:_LONG_LIST]
            }
    return value
