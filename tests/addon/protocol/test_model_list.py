import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.protocol.model_list import cuts, shown

ALLOWED = frozenset({"a", "b/c", "gemini", "models/exact"})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"data": [{"id": "a"}, {"id": "x"}, {"id": "b/c"}]}', '{"data": [{"id": "a"}, {"id": "b/c"}]}'),
        ('{"data": [{"id": "x"}, {"id": "a"}]}', '{"data": [{"id": "a"}]}'),
        ('{"data": [ {"id": "x"} , {"id": "y"} , {"id": "a"} ]}', '{"data": [ {"id": "a"} ]}'),
        ('{"data": [{"id": "a"},\n  {"id": "x"},\n  {"id": "y"}\n]}', '{"data": [{"id": "a"}\n]}'),
        ('{"data": [{"id": "x"}, {"id": "a"}, {"id": "y"}]}', '{"data": [{"id": "a"}]}'),
        ('{"data":[\n{"id":"x"},\n{"id":"y"}\n]}', '{"data":[\n\n]}'),
        ('{"data":[]}', '{"data":[]}'),
        (
            '\n{"object":"list","data":[{"id":"x"}],"has_more":false}\n',
            '\n{"object":"list","data":[],"has_more":false}\n',
        ),
        ('[{"id": "x"}, {"id": "a", "n": 1e400}]', '[{"id": "a", "n": 1e400}]'),
        ("[]", "[]"),
        ('{"models": [{"name": "models/gemini"}, {"name": "models/x"}]}', '{"models": [{"name": "models/gemini"}]}'),
        ('{"models": [{"name": "gemini"}, {"name": "models/exact"}]}',) * 2,
        ('{"models": [{"name": "exact"}, {"name": "models/models/gemini"}]}', '{"models": []}'),
        ('{"data": [{"id": "models/gemini"}]}', '{"data": []}'),
        ('{"data": [{"id": "\\u0061"}, {"id": "\\u0078"}]}', '{"data": [{"id": "\\u0061"}]}'),
        ('{"data": [{"id": "A"}, {"id": " a"}, {"id": "a\\u0000"}, {"id": "\\ud800"}]}', '{"data": []}'),
        (
            '{"data": [{"id": "x"}], "models": [{"name": "a"}, {"name": "x"}]}',
            '{"data": [], "models": [{"name": "a"}]}',
        ),
        (
            '{"data": [{"id": "a", "t": "ü\U0001f600\\"]},{"}, {"id": "x"}]}',
            '{"data": [{"id": "a", "t": "ü\U0001f600\\"]},{"}]}',
        ),
        ('{"data": [{"id": "a", "data": [{"id": "x"}]}]}',) * 2,
    ],
)
def test_only_allowed_models_are_shown_and_every_other_byte_stays(body: str, expected: str) -> None:
    assert shown(body.encode(), ALLOWED) == expected.encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b'"a"',
        b"{}",
        b'{"object": "list"}',
        b'{"Data": [{"id": "a"}]}',
        b'{"data": {"a": {"id": "a"}}}',
        b'{"data": null}',
        b'{"data": "a"}',
        b'{"data": [{"id": "a"}], "models": {}}',
        b'{"data": [null]}',
        b'{"data": ["a"]}',
        b'{"data": [["a"]]}',
        b'{"data": [{}]}',
        b'{"data": [{"id": 1}]}',
        b'{"data": [{"id": null}]}',
        b'{"data": [{"ID": "a"}]}',
        b'{"data": [{"name": "a"}]}',
        b'{"models": [{"id": "a"}]}',
        b'[{"name": "a"}]',
        b'[["a"]]',
        b'{"data": [{"id": "a", "id": "x"}]}',
        b'{"data": [{"id": "x", "\\u0069d": "a"}]}',
        b'{"data": [{"id": "a", "of": {"b": 1, "b": 2}}]}',
        b'{"data": [], "data": [{"id": "x"}]}',
        b'{"data": [], "d\\u0061ta": [{"id": "x"}]}',
        b'{"data": [], "a": 1, "a": 2}',
        b'{"data": []} {"data": [{"id": "x"}]}',
        b'{"data": []},',
        b'{"data": []}\0',
        b'{"data": []}\x0b',
        b'\xef\xbb\xbf{"data": []}',
        b'{"data": [{"id": "a"},]}',
        b'{"data": [,{"id": "a"}]}',
        b'{"data": [{"id": "a"} {"id": "a"}]}',
        b'{"data": [{"id": "a"}}',
        b'{"data": [{"id": "a"}',
        b'{"data": []',
        b'{"data": [],}',
        b'{,"data": []}',
        b'{"data" []}',
        b'{"data": [] "a": 1}',
        b"{'data': []}",
        b"{data: []}",
        b'{1: 2, "data": []}',
        b'{"data": [{"id": "a", "n": NaN}]}',
        b'{"data": [{"id": "a", "n": -Infinity}]}',
        b'{"data": [{"id": "a", "n": 01}]}',
        b'{"data": [{"id": "a", "n": .5}]}',
        b'{"data": [{"id": "a", "t": "\t"}]}',
        b'{"data": [{"id": "a", "t": "\\x"}]}',
        b'{"data": [{"id": "a"}] /* */}',
        b'{"data": [{"id": "\xff"}]}',
        b'{"data": [{"id": "\xed\xa0\x80"}]}',
        '{"data": [{"id": "a"}]}'.encode("utf-16"),
        b'{"data": ' + b"[" * 100_000,
        b'{"data": [{"id": "a", "n": ' + b'{"n": ' * 100_000,
    ],
    ids=lambda body: repr(body[:40]),
)
def test_what_is_no_list_of_models_in_strict_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the decoder's own errors among them
        shown(body, ALLOWED)


NAMES = st.sampled_from(["a", "b/c", "models/gemini", "x", "models/x", "A", "", "ü", "\U0001f600", '"', "]", "\\"])
BLANKS = st.text(" \t\n\r", max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
KINDS = st.sampled_from([("data", "id"), ("models", "name"), ("", "id")])


@st.composite
def lists(draw: st.DrawFn) -> tuple[str, str, Any]:
    """Draw a list of models with blanks anywhere, its kind, and what it holds."""
    kind, naming = draw(KINDS)
    fields = st.dictionaries(st.text(max_size=4), VALUES, max_size=2)
    models = [{**draw(fields), naming: name, **draw(fields)} for name in draw(st.lists(NAMES, max_size=5))]
    for model in models:
        model[naming] = model[naming] if isinstance(model[naming], str) else "x"
    around = {name: value for name, value in draw(fields).items() if name not in {"data", "models"}}
    document: Any = (
        models if not kind else {**around, kind: models, **{f"z{name}": value for name, value in around.items()}}
    )
    return kind, "".join(blanked(document, lambda: draw(BLANKS), escapes=draw(st.booleans()))), document


def blanked(value: Any, blank: Any, *, escapes: bool) -> Iterator[str]:
    """Yield the pieces of a JSON text with blanks wherever they may be."""
    yield blank()
    if isinstance(value, list | dict):
        yield "[" if isinstance(value, list) else "{"
        for number, part in enumerate(value):
            yield "," if number else ""
            yield from blanked(part, blank, escapes=escapes)
            if isinstance(value, dict):
                yield ":"
                yield from blanked(value[part], blank, escapes=escapes)
        yield blank()
        yield "]" if isinstance(value, list) else "}"
    else:
        yield json.dumps(value, ensure_ascii=escapes)
    yield blank()


def is_allowed(kind: str, model: dict[str, Any]) -> bool:
    if kind != "models":
        return model["id"] in ALLOWED
    return not {model["name"], model["name"].removeprefix("models/")}.isdisjoint(ALLOWED)


@given(lists())
def test_a_list_is_filtered_by_cutting_spans_out_of_it(drawn: tuple[str, str, Any]) -> None:
    kind, text, document = drawn
    body = text.encode()
    result = shown(body, ALLOWED)
    models = document[kind] if kind else document
    kept = [model for model in models if is_allowed(kind, model)]
    expected = {**document, kind: kept} if kind else kept
    assert json.loads(result) == expected
    spans = cuts(text, ALLOWED)
    assert all(one[0] < one[1] <= other[0] for one, other in itertools.pairwise([*spans, (len(text), len(text))]))
    assert result.decode() == "".join(
        character for at, character in enumerate(text) if not any(start <= at < end for start, end in spans)
    )
    assert shown(result, ALLOWED) == result
    if len(kept) == len(models):
        assert result is body


@given(st.binary(max_size=40) | st.text('{}[]",:datamodelsni \\1', max_size=40).map(str.encode))
def test_any_other_body_is_refused_by_a_value_error_alone(body: bytes) -> None:
    try:
        result = shown(body, ALLOWED)
    except ValueError:
        return
    found = json.loads(result)
    assert isinstance(found, list) or {"data", "models"} & found.keys()


def test_a_long_list_takes_few_milliseconds() -> None:
    """OpenRouter's has 600 KB; the bound is ten times what it takes."""
    model = {"description": "words " * 200, "pricing": {"prompt": "0.00001"}, "parameters": ["max_tokens", "stop"] * 8}
    body = json.dumps({"data": [{"id": f"vendor/model-{number}", **model} for number in range(400)]}).encode()
    assert 500_000 < len(body) < 700_000
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        assert len(shown(body, {"vendor/model-3"})) < 3000
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.03
