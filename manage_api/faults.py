"""Words the errors of invalid values, one entry for each keyword of JSON Schema that openapi.yaml uses.

A message says what the schema requires, and of the value that was sent only its type: it may be a secret. The words for
a `pattern` stand beside it in openapi.yaml (`x-pattern-words`), also for a pattern inside a `not`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from manage_api import unknown_names

type Fault = Any
"""A `jsonschema.ValidationError`."""

type Path = tuple[str | int, ...]
"""The path to a value: names of fields, and positions in arrays."""

type Subject = Callable[[Path], str]
"""Names the value at a path, as the subject of a sentence."""

_TYPES: Mapping[str, str] = {
    "array": "an array",
    "boolean": "a boolean (true or false)",
    "integer": "an integer",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}

_SENT: Mapping[type, str] = {
    bool: "a boolean",
    dict: "an object",
    float: "a decimal number",
    int: "an integer",
    list: "an array",
    str: "a string",
    type(None): "null",
}
"""The types that `json.loads` returns."""

FORMATS: Mapping[str, str] = {
    "date": "a date, such as 2026-11-25",
    "date-time": "a time of RFC 3339, such as 2026-11-25T00:00:00Z",
    "int64": "an integer from -2^63 to 2^63-1",
    "time-zone": "the IANA name of a time zone, such as Europe/Berlin",
    "uuid": "a UUID, such as 123e4567-e89b-12d3-a456-426614174000",
}
"""The formats that are checked, worded after "must be"."""


def sentences(faults: Iterable[Fault], subject: Subject) -> Iterator[str]:
    """Return one sentence for each invalid value, and several for an object, in the order of the schema."""
    reported: set[Path] = set()
    for fault in faults:
        path = tuple(fault.absolute_path)
        if path not in reported:
            yield f"{subject(path)} {predicate(fault)}."
        if not isinstance(fault.instance, dict):
            reported.add(path)


def field(path: Path) -> str:
    """Return the subject for a value of a body: "The field 'rates.input'"."""
    if not path:
        return "The body"
    first, *others = path
    return f"The field '{first}{''.join(f'[{each}]' if isinstance(each, int) else f'.{each}' for each in others)}'"


def parameter(name: str) -> Subject:
    """Return the subject for a query parameter, or for one of its values where it has several."""
    return lambda path: f"A value of the query parameter '{name}'" if path else f"The query parameter '{name}'"


def predicate(fault: Fault) -> str:
    """Return the predicate that says what is wrong with a value."""
    return WORDS[fault.validator](fault)


def unreadable(schema: Mapping[str, Any]) -> str:
    """Return the predicate for a parameter whose text is not the boolean or integer that its schema requires."""
    if schema["type"] == "boolean":
        return "must be true or false"
    return f"must be an integer from {schema['minimum']} to {schema['maximum']}"


def _type(fault: Fault) -> str:
    or_null = " or null" if fault.schema.get("nullable") else ""
    return f"must be {_TYPES[fault.validator_value]}{or_null}, not {_SENT[type(fault.instance)]}"


def _required(fault: Fault) -> str:
    missing = [name for name in fault.validator_value if name not in fault.instance]
    return f"lacks the required {'field' if len(missing) == 1 else 'fields'} {_quoted(missing)}"


def _additional_properties(fault: Fault) -> str:
    properties = fault.schema["properties"]
    unknown = [name for name in fault.instance if name not in properties]
    known = [name for name, schema in properties.items() if not schema.get("readOnly") and schema.get("not") != {}]
    return unknown_names.complaint("field", unknown, known)


def _pattern(fault: Fault) -> str:
    return f"must {fault.schema['x-pattern-words']}"


def _not(fault: Fault) -> str:
    both = fault.validator_value.get("required")
    return f"must have only one of the fields {_quoted(both)}" if both else _pattern(fault)


def _min_length(fault: Fault) -> str:
    least = fault.validator_value
    return "must not be empty" if least == 1 else f"must have at least {least} characters"


def _alternatives(fault: Fault) -> str:
    """Return what is wrong by the alternatives of the type that was sent, or by all where none has that type."""
    first_of: dict[int, Fault] = {}
    for each in fault.context:
        first_of.setdefault(each.schema_path[0], each)
    intended = [each for each in first_of.values() if each.validator != "type"]
    if not intended:
        types = " or ".join(_TYPES[each.validator_value] for each in first_of.values())
        return f"must be {types}, not {_SENT[type(fault.instance)]}"
    if all(each.validator == "required" for each in intended):
        names = [name for each in intended for name in each.validator_value]
        return f"must have at least one of the fields {_quoted(names)}"
    return ", or ".join(predicate(each) for each in intended).replace(", or must", ", or")


def _one_of(fault: Fault) -> str:
    """Return what is wrong by the alternatives, also where several hold: then none of them has a fault."""
    if all(each.keys() == {"required"} for each in fault.validator_value):
        names = [f"'{name}'" for each in fault.validator_value for name in each["required"]]
        return f"must have either {' or '.join(names)}"
    return _alternatives(fault)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


WORDS: Mapping[str, Callable[[Fault], str]] = {
    "additionalProperties": _additional_properties,
    "anyOf": _alternatives,
    "enum": lambda fault: f"must be one of {', '.join(fault.validator_value)}",
    "format": lambda fault: f"must be {FORMATS[fault.validator_value]}",
    "maxLength": lambda fault: f"must have at most {fault.validator_value} characters",
    "maxItems": lambda fault: f"must have at most {fault.validator_value} values",
    "maximum": lambda fault: f"must be at most {fault.validator_value}",
    "minItems": lambda fault: f"must have at least {fault.validator_value} values",
    "minLength": _min_length,
    "minProperties": lambda fault: (
        f"must have at least {fault.validator_value} of the fields {_quoted(fault.schema['properties'])}"
    ),
    "minimum": lambda fault: f"must be at least {fault.validator_value}",
    "not": _not,
    "oneOf": _one_of,
    "pattern": _pattern,
    "required": _required,
    "type": _type,
    "uniqueItems": lambda _: "must not have a value twice",
}
"""The predicate of each keyword."""
