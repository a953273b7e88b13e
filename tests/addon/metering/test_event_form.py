"""The form of an event finds what parsing it would find, and never less."""

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.demand import TextBound, Vocabulary
from addon.metering.event_form import EventForm, form_of
from addon.metering.shown_output import ShownOutput

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"


def compact(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


def chunk(text: str, number: int = 0, padding: str = "") -> bytes:  # noqa: ARG001 - chat completions have no number
    delta = {"content": text}
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}
    return compact({**event, "obfuscation": padding})


def delta(text: str, number: int = 0, padding: str = "") -> bytes:
    event = {"type": "response.output_text.delta", "sequence_number": number, "item_id": "msg_1", "delta": text}
    return compact({**event, "logprobs": [], "obfuscation": padding})


def block(text: str, number: int = 0, padding: str = "") -> bytes:  # noqa: ARG001 - as above
    return compact({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})


def spaced(text: str, number: int = 0, padding: str = "") -> bytes:  # noqa: ARG001 - as above
    return json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode()


EACH = [(CHAT, chunk), (RESPONSES, delta), (MESSAGES, block), (CHAT, spaced)]


@pytest.mark.parametrize(("endpoint", "event"), EACH)
@pytest.mark.parametrize("text", [" word", "é漢🎉", ":", ",", "", "1"])
def test_the_text_of_a_further_event_is_found(endpoint: str, event: Any, text: str) -> None:
    form = form_of(event("Hello", 7, "abc"), "Hello")
    assert form is not None, endpoint
    found = form.text_in(event(text, 12345, "abcdef"))
    assert found == (None if event is spaced and not text.isascii() else text.encode())  # that one has escapes


@pytest.mark.parametrize(("endpoint", "event"), EACH)
@pytest.mark.parametrize("text", ['a "word"', "a line\n", "\\"])
def test_a_text_with_escapes_has_to_be_parsed(endpoint: str, event: Any, text: str) -> None:
    form = form_of(event("Hello"), "Hello")
    assert form is not None, endpoint
    assert form.text_in(event(text)) is None
    assert form_of(event(text), text) is None


@pytest.mark.parametrize(("endpoint", "event"), EACH)
@pytest.mark.parametrize(
    ("part", "other"),
    [
        (b'"Hi"', b'"Hi","reasoning":"A thought."'),
        (b'"Hi"', b'["Hi"]'),
        (b'"Hi"', b'"Hi'),
        (b'"Hi"}', b'"Hi","a":1}'),
        (b'"delta":', b'"a":"A text.","delta":'),
        (b'"delta":', b'"other":'),
        (b"{", b'{"choices":[],'),
        (b"0,", b"-0,"),
    ],
)
def test_an_event_of_another_form_has_to_be_parsed(endpoint: str, event: Any, part: bytes, other: bytes) -> None:
    form, further = form_of(event("Hello"), "Hello"), event("Hi").replace(b'": ', b'":')
    if event is spaced:
        form = form_of(event("Hello").replace(b'": ', b'":'), "Hello")
    assert form is not None, endpoint
    assert form.text_in(further) == b"Hi"
    if part in further:
        assert form.text_in(further.replace(part, other, 1)) is None


def test_a_text_that_is_no_utf8_has_to_be_parsed() -> None:
    form = form_of(chunk("Hello"), "Hello")
    assert form is not None
    assert form.text_in(chunk("TEXT").replace(b"TEXT", b"\xff")) is None


def test_an_event_with_much_beside_its_text_has_no_form() -> None:
    assert form_of(chunk("Hello", padding="a" * 3900), "Hello") is not None
    assert form_of(chunk("Hello", padding="a" * 4097), "Hello") is None


@pytest.mark.parametrize("text", ["chatcmpl-1", "content", "index", ":", ",", ""])
def test_there_is_no_form_where_the_text_may_stand_elsewhere(text: str) -> None:
    assert form_of(chunk(text), text) is None


def test_a_text_that_is_written_otherwise_has_no_form() -> None:
    event = rb'{"id":"Hi","choices":[{"delta":{"content":"\u0048i"}}]}'
    assert form_of(event, "Hi") is None


def parts(event: bytes) -> st.SearchStrategy[bytes]:
    """Return events that are nearly this one: with a piece left out, repeated, or put in the place of another."""
    places = st.integers(0, len(event))
    pieces = st.sampled_from([b"", b'"', b"\\", b"{", b"}", b",", b":", b"0", b'"delta":', b'"content":"x",', b"\xff"])
    return st.builds(lambda a, b, piece: event[: min(a, b)] + piece + event[max(a, b) :], places, places, pieces)


def near(made: tuple[str, Any]) -> st.SearchStrategy[tuple[str, EventForm, bytes]]:
    endpoint, event = made
    form = form_of(event("Hello"), "Hello")
    assert form is not None
    texts = st.text(max_size=20) | st.sampled_from(["content", ":", ",", "delta"])
    further = st.builds(event, texts, st.integers(0, 10**6), st.sampled_from(["", "ab", "a" * 40]))
    return st.tuples(st.just(endpoint), st.just(form), further | further.flatmap(parts))


@given(st.sampled_from(EACH).flatmap(near))
def test_no_less_is_found_than_a_parser_finds(made: tuple[str, EventForm, bytes]) -> None:
    endpoint, form, event = made
    found = form.text_in(event)
    hypothesis.assume(found is not None)
    assert found is not None
    shown = ShownOutput(endpoint)
    shown.add(event)
    shown.is_more_than(0, "gpt-4o")  # has it parsed, and counted
    bound = TextBound()
    bound.feed(found)
    assert shown.at_most <= bound.tokens(Vocabulary.O200K)
