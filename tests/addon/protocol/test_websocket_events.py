import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.protocol.partial_json import MAX_WHOLE
from addon.protocol.websocket_events import (
    MAX_ASK,
    MAX_ID,
    Event,
    any_upstream_event,
    client_event,
    is_of_response,
    upstream_event,
)

LARGE = "x" * (MAX_WHOLE + 1)
HUGE = "x" * (MAX_ASK + 1)
CREATED = {"id": "r1", "tools": "TOOLS"}


def encoded(**event: object) -> bytes:
    return json.dumps(event).encode()


def with_nested(depth: int, content: bytes) -> bytes:
    """Put an object into the field "tools" that parsers with a limit reject."""
    inner = b'{"a":' * depth + b"1" + b"}" * depth
    return content.replace(b'"TOOLS"', inner)


def ask(**fields: object) -> bytes:
    return encoded(type="response.create", **fields)


@pytest.mark.parametrize(
    "content",
    [
        ask(),
        ask(response={"instructions": "Hi"}),
        encoded(response={"instructions": "Hi"}, type="response.create"),
        ask(response={"instructions": LARGE}),
        encoded(response={"instructions": LARGE}, type="response.create"),
        encoded(one=LARGE, type="response.create", other=LARGE),
        encoded(one=HUGE, type="response.create", other=HUGE),
        encoded(response={"instructions": LARGE}, type="response.create") + b" " * 300,
        rb'{"type": "response\u002e\u0063reate"}',
        rb'{"type": "response\u002E\u0063reat\u0065"}',
        rb'{"t\u0079pe": "response.create"}',
        rb'{"event_id": "\ud800", "type": "response.create"}',
        b'{"type": "session.update", "type": "response.create"}',
        b'{"type": "response.create", "type": "session.update"}',
        with_nested(250, ask(tools="TOOLS")),
        with_nested(200_000, ask(tools="TOOLS")),
        b'{"type": "response.create", no JSON',
        ask(generate=None),
        ask(generate=0),
        ask(generate=True),
        ask(response={"generate": False}),
        b'{"type": "response.create", "generate": false, "generate": true}',
        b'{"type": "response.create", "generate": true, "generate": false}',
        ask(generate=False, pad=HUGE),
        ask(generate=False, pad=LARGE),
        ask(prompt_cache_options={"prewarm": 1}),
        ask(prompt_cache_options=[]),
    ],
    ids=range(27),
)
def test_an_event_asks_for_output(content: bytes) -> None:
    event = client_event(content)
    assert event is not None
    assert (event.kind, event.has_output) == ("response.create", True)


@pytest.mark.parametrize(
    "content",
    [ask(generate=False), ask(prompt_cache_options={"prewarm": True}), ask(generate=False, pad="x" * (MAX_ASK - 100))],
)
def test_an_event_asks_for_no_output(content: bytes) -> None:
    event = client_event(content)
    assert event is not None
    assert not event.has_output


@pytest.mark.parametrize("kind", ["response.steer", "response.inject"])
def test_an_event_makes_the_upstream_continue(kind: str) -> None:
    assert client_event(encoded(type=kind, event_id="mine")) == Event(kind, event_id="mine")


def test_an_ask_names_itself_and_its_lane() -> None:
    assert client_event(ask(event_id="mine", stream_id="left")) == Event(
        "response.create", event_id="mine", lane="left"
    )
    unreadable = client_event(ask(event_id="mine", stream_id="left", pad=HUGE))
    assert unreadable == Event("response.create", event_id="mine", lane="left")


@pytest.mark.parametrize(
    "coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-8-sig"]
)
def test_a_binary_message_in_another_encoding_asks_for_output(coding: str) -> None:
    event = client_event(ask().decode().encode(coding), is_text=False)
    assert event is not None
    assert event.kind == "response.create"


@pytest.mark.parametrize(
    "content",
    [
        encoded(type="session.update", session={}),
        encoded(type="response.cancel"),
        encoded(type="conversation.item.create", item={"text": 'say "response.create"'}),
        encoded(type="conversation.item.create", item={"type": "response.create"}),
        encoded(type="input_audio_buffer.append", audio=LARGE),
        encoded(type="conversation.item.create", item={"text": '"response.create"' + HUGE}),
        encoded(type=["response.create"]),
        b'["response.create"]',
        b'[["type", "response.create"]]',
        b'"response.create"',
        b"response.create",
        b"\xff response.create",
        b"",
    ],
)
def test_other_messages_of_a_client_are_no_events(content: bytes) -> None:
    assert client_event(content) is None


@pytest.mark.parametrize(
    ("content", "kind", "response_id"),
    [
        (encoded(type="response.created", response={"id": "r1"}), "response.created", "r1"),
        (encoded(response={"id": "r1"}, type="response.created"), "response.created", "r1"),
        (encoded(response={"instructions": LARGE}, type="response.created"), "response.created", ""),
        (encoded(one=LARGE, type="response.created", other=LARGE), "response.created", ""),
        (encoded(type="response.created", response={"id": "r1", "instructions": LARGE}), "response.created", "r1"),
        (with_nested(250, encoded(type="response.created", response=CREATED)), "response.created", "r1"),
        (with_nested(200_000, encoded(type="response.created", response=CREATED)), "response.created", ""),
        (rb'{"event_id": "\ud800", "type": "response.created", "response": {"id": "r1"}}', "response.created", "r1"),
        (encoded(type="response.output_item.added", response_id="r1"), "response.output_item.added", "r1"),
        (encoded(type="response.done", response={"id": "r1"}), "response.done", "r1"),
        (encoded(type="response.failed", response={"id": "r1"}), "response.failed", "r1"),
        (encoded(type="error", error={"message": "no"}), "error", ""),
    ],
    ids=range(12),
)
def test_an_event_of_the_upstream_names_its_response(content: bytes, kind: str, response_id: str) -> None:
    event = upstream_event(content)
    assert event is not None
    assert (event.kind, event.response_id) == (kind, response_id)


@pytest.mark.parametrize(
    "content",
    [
        encoded(type="response.output_text.delta", delta="response.created"),
        encoded(type="response.output_text.delta", delta='"response.created"'),
        encoded(type="session.created", session={"id": "s1"}),
        encoded(type="conversation.item.added", item={"type": "error"}),
        encoded(type="response.in_progress", response={"error": None}),
        b"response.created",
        b"",
    ],
)
def test_other_messages_of_the_upstream_are_no_events(content: bytes) -> None:
    assert upstream_event(content) is None


@pytest.mark.parametrize(
    ("given", "known"), [(400, 400), (599, 599), (399, None), (600, None), (10**20, None), (True, None), ("400", None)]
)
def test_an_error_names_the_event_that_caused_it_and_a_status(given: object, known: int | None) -> None:
    event = upstream_event(encoded(type="error", status=given, stream_id="left", error={"event_id": "mine"}))
    assert event is not None
    assert (event.caused_by, event.status, event.lane) == ("mine", known, "left")


def test_an_event_names_its_response_and_its_item() -> None:
    event = any_upstream_event(
        encoded(type="response.output_text.delta", response_id="r1", item_id="i1", stream_id="left")
    )
    assert (event.response_id, event.item_id, event.lane) == ("r1", "i1", "left")
    assert (
        any_upstream_event(encoded(type="conversation.item.done", item={"id": "i2"}, previous_item_id="i1")).item_id
        == "i2"
    )


def test_an_id_that_is_too_long_counts_as_absent() -> None:
    assert any_upstream_event(encoded(response_id="x" * MAX_ID)).response_id == "x" * MAX_ID
    assert any_upstream_event(encoded(response_id="x" * (MAX_ID + 1))).response_id == ""


@pytest.mark.parametrize(
    ("content", "is_one"),
    [
        (encoded(type="response.output_text.delta", delta="Hi"), True),
        (b'{"type":"response.output_text.delta"}', True),
        (encoded(type="session.updated", session={"instructions": 'Say "type": "response.create"'}), False),
        (encoded(type="conversation.item.added"), False),
    ],
)
def test_an_event_is_about_a_response(content: bytes, is_one: bool) -> None:
    assert is_of_response(content) == is_one


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.booleans())
def test_a_message_that_any_parser_may_take_for_an_ask_is_one(content: bytes, is_text: bool) -> None:
    """A message with the mark of an ask is one, unless it is valid JSON of another type."""
    made = b'{"type":"response.create"' + content
    event = client_event(made, is_text=is_text)
    if event is None:
        fields: Any = json.loads(made)
        assert fields["type"] != "response.create"
    assert upstream_event(b'{"type":"response.created"' + content) is not None or json.loads(
        b'{"type":"response.created"' + content
    )


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | inner))
def test_every_spelling_of_a_type_is_read(value: object) -> None:
    spelled = "".join(f"\\u{ord(letter):04x}" for letter in "response.create")
    content = json.dumps({"extra": value, "type": "TYPE"}).replace("TYPE", spelled).encode()
    assert client_event(content) == Event("response.create")
