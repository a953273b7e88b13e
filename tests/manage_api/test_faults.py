"""Each fault that openapi.yaml can find in a request has a message of its own, which quotes nothing of the request."""

from collections.abc import Iterator
from typing import Any

import pytest
from openapi_schema_validator import OAS30WriteValidator
from support.openapi import DOCUMENT

from manage_api import faults

WITHOUT_WORDS = {"properties", "items", "allOf", "$ref", "readOnly"}
"""Keywords that only lead to other schemas, and the one that `read_only` decides about."""


def resolved(node: Any) -> Any:
    while "$ref" in node:
        found = DOCUMENT
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        node = found
    return node


def schemas_of(schema: Any) -> Iterator[Any]:
    """Return a schema and all schemas in it."""
    schema = resolved(schema)
    yield schema
    inner = [*schema.get("properties", {}).values()]
    inner += [each for name in ("allOf", "anyOf", "oneOf") for each in schema.get(name, ())]
    inner += [schema[name] for name in ("items", "not") if name in schema]
    for each in inner:
        yield from schemas_of(each)


def requests() -> Iterator[tuple[list[Any], list[Any]]]:
    """Return the parameters of the query and the schemas of the body of each operation under /manage."""
    for path, item in DOCUMENT["paths"].items():
        for operation in item.values() if path.startswith("/manage") else ():
            if isinstance(operation, dict):
                parameters = [resolved(each) for each in operation.get("parameters", ())]
                bodies = operation.get("requestBody", {}).get("content", {}).values()
                yield [each for each in parameters if each["in"] == "query"], [each["schema"] for each in bodies]


QUERY = [schema for query, _ in requests() for parameter in query for schema in schemas_of(parameter["schema"])]
BODIES = [schema for _, bodies in requests() for body in bodies for schema in schemas_of(body)]


def test_every_keyword_has_words_and_no_other_has() -> None:
    finds_faults = {
        name
        for name, function in OAS30WriteValidator.VALIDATORS.items()
        if getattr(function, "__name__", "") != "not_implemented"
    }
    used = {name for schema in (*QUERY, *BODIES) for name in schema} & finds_faults
    assert len(QUERY) > 20
    assert len(BODIES) > 30
    assert set(faults.WORDS) == used - WITHOUT_WORDS


def test_every_pattern_has_words_beside_it() -> None:
    with_pattern = [each for each in (*QUERY, *BODIES) if "pattern" in each or "pattern" in each.get("not", ())]
    excluded = [each["not"] for each in with_pattern if "not" in each]
    lacking = [each for each in with_pattern if each not in excluded and not each.get("x-pattern-words")]
    assert with_pattern
    assert lacking == []


def test_every_format_has_words_and_no_other_has() -> None:
    assert set(faults.FORMATS) == {each["format"] for each in (*QUERY, *BODIES) if "format" in each}


def test_a_parameter_is_a_string_a_boolean_or_a_bounded_integer() -> None:
    """`unreadable` has a message for these kinds alone."""
    assert {each.get("type", "string") for each in QUERY} == {"string", "array", "boolean", "integer"}
    assert all({"minimum", "maximum"} <= each.keys() for each in QUERY if each.get("type") == "integer")


@pytest.mark.parametrize("schema", [each for each in BODIES if each.get("type") == "object"])
def test_every_object_of_a_body_refuses_unknown_fields(schema: Any) -> None:
    assert schema["additionalProperties"] is False


TEXT = {"type": "string", "pattern": "^a+$", "not": {"pattern": "[^a]"}, "x-pattern-words": "have no letter but a"}
FIELDS = {"type": "object", "properties": {"one": {"type": "string"}, "two": {"type": "string"}}}

FAULTS: dict[str, list[tuple[Any, Any, str]]] = {
    "type": [
        ({"type": "integer"}, "7", "must be an integer, not a string"),
        ({"type": "integer"}, 1.5, "must be an integer, not a decimal number"),
        ({"type": "integer"}, True, "must be an integer, not a boolean"),
        ({"type": "boolean"}, 1, "must be a boolean (true or false), not an integer"),
        ({"type": "string"}, None, "must be a string, not null"),
        ({"type": "string", "nullable": True}, [1], "must be a string or null, not an array"),
        ({"type": "array", "items": {}}, {"one": 1}, "must be an array, not an object"),
        ({"type": "object"}, "x", "must be an object, not a string"),
        ({"type": "number"}, "x", "must be a number, not a string"),
        (TEXT, 1, "must be a string, not an integer"),
    ],
    "minimum": [({"minimum": 1}, 0, "must be at least 1")],
    "maximum": [({"maximum": 2**63 - 1}, 2**63, "must be at most 9223372036854775807")],
    "format": [
        ({"format": "uuid"}, "x", "must be a UUID, such as 123e4567-e89b-12d3-a456-426614174000"),
        ({"format": "date-time"}, "x", "must be a time of RFC 3339, such as 2026-11-25T00:00:00Z"),
        ({"format": "date"}, "x", "must be a date, such as 2026-11-25"),
        ({"format": "int64"}, 2**63, "must be an integer from -2^63 to 2^63-1"),
    ],
    "pattern": [(TEXT, "ab", "must have no letter but a")],
    "not": [
        (TEXT, "a\n", "must have no letter but a"),
        ({"not": {}, "x-pattern-words": "be left out: it is too early"}, 1, "must be left out: it is too early"),
        ({"not": {"required": ["one", "two"]}}, {"one": 1, "two": 2}, "must have only one of the fields 'one', 'two'"),
    ],
    "enum": [({"enum": ["json", "csv"]}, "x", "must be one of json, csv")],
    "minLength": [
        ({"minLength": 1}, "", "must not be empty"),
        ({"minLength": 3}, "x", "must have at least 3 characters"),
    ],
    "maxLength": [({"maxLength": 2}, "xyz", "must have at most 2 characters")],
    "maxItems": [({"maxItems": 1}, ["x", "y"], "must have at most 1 values")],
    "minItems": [({"minItems": 2}, ["x"], "must have at least 2 values")],
    "uniqueItems": [({"uniqueItems": True}, ["x", "x"], "must not have a value twice")],
    "minProperties": [({**FIELDS, "minProperties": 1}, {}, "must have at least 1 of the fields 'one', 'two'")],
    "required": [
        ({"required": ["one"]}, {}, "lacks the required field 'one'"),
        ({"required": ["one", "two"]}, {}, "lacks the required fields 'one', 'two'"),
    ],
    "additionalProperties": [
        ({**FIELDS, "additionalProperties": False}, {"on": 1}, "has an unknown field: 'on' (did you mean 'one'?)"),
        (
            {"type": "object", "properties": {"one": {}, "two": {"not": {}}}, "additionalProperties": False},
            {"tw": 1},
            "has an unknown field: 'tw'; known fields: one",
        ),
    ],
    "anyOf": [
        (
            {"anyOf": [{"required": ["one"]}, {"required": ["two"]}]},
            {},
            "must have at least one of the fields 'one', 'two'",
        ),
        (
            {"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date"}]},
            "x",
            "must be a time of RFC 3339, such as 2026-11-25T00:00:00Z, or be a date, such as 2026-11-25",
        ),
    ],
    "oneOf": [
        ({"oneOf": [TEXT, {"type": "number"}]}, True, "must be a string or a number, not a boolean"),
        ({"oneOf": [TEXT, {"type": "number"}]}, "b", "must have no letter but a"),
        ({"oneOf": [TEXT, {"type": "number", "minimum": 0}]}, -1, "must be at least 0"),
    ],
}


@pytest.mark.parametrize("keyword", faults.WORDS)
def test_each_fault_has_its_words(keyword: str) -> None:
    checker = type(OAS30WriteValidator.FORMAT_CHECKER)()
    checker.checkers = dict.fromkeys(faults.FORMATS, (lambda _: False, ()))
    for schema, value, words in FAULTS[keyword]:
        found = [*OAS30WriteValidator(schema, format_checker=checker).iter_errors(value)]
        assert keyword in {fault.validator for fault in found}
        assert list(dict.fromkeys(faults.sentences(found, faults.field))) == [f"The body {words}."]


def test_paths_of_values_are_named() -> None:
    assert faults.field(("rates",)) == "The field 'rates'"
    assert faults.field(("rates", "input")) == "The field 'rates.input'"
    assert faults.field(("limits", 0, "per")) == "The field 'limits[0].per'"
    assert faults.parameter("groupBy")(()) == "The query parameter 'groupBy'"
    assert faults.parameter("groupBy")((1,)) == "A value of the query parameter 'groupBy'"
