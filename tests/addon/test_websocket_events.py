import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.metering.outline import MAX_EVENT
from addon.websocket_events import RESPONSES, Ask, asked, place, subject, told

REALTIME = "/v1/realtime"
LARGE = "x" * (MAX_EVENT + 1)
ESCAPED = rb'{"type": "response\u002e\u0063reate"}'


def encoded(**event: object) -> bytes:
    return json.dumps(event).encode()


@pytest.mark.parametrize(
    ("content", "ask"),
    [
        (encoded(type="response.create"), Ask("", "", has_output=True)),
        (encoded(type="response.create", event_id="mine"), Ask("mine", "", has_output=True)),
        (encoded(type="response.create", stream_id="left"), Ask("", "left", has_output=True)),
        (encoded(response={"instructions": "Hi"}, type="response.create"), Ask("", "", has_output=True)),
        (encoded(type="response.create", response={"instructions": LARGE}), Ask("", "", has_output=True)),
        (encoded(response={"instructions": LARGE}, type="response.create"), Ask("", "", has_output=True)),
        (ESCAPED, Ask("", "", has_output=True)),
        (encoded(type="response.create", generate=False), Ask("", "", has_output=False)),
        (encoded(type="response.create", prompt_cache_options={"prewarm": True}), Ask("", "", has_output=False)),
        (encoded(type="response.create", generate=None), Ask("", "", has_output=True)),
        (encoded(type="response.create", generate=0), Ask("", "", has_output=True)),
        (encoded(type="response.create", response={"generate": False}), Ask("", "", has_output=True)),
    ],
)
def test_an_event_asks_for_a_response(content: bytes, ask: Ask) -> None:
    assert asked(content, RESPONSES) == ask


@pytest.mark.parametrize(
    "content",
    [
        encoded(type="session.update", session={}),
        encoded(type="response.cancel"),
        encoded(type="conversation.item.create", item={"text": 'say "response.create"'}),
        encoded(type="conversation.item.create", item={"type": "response.create"}),
        encoded(type="input_audio_buffer.append", audio=LARGE),
        encoded(type="conversation.item.create", item={"text": "response.create" + LARGE}),
        encoded(type=["response.create"]),
        b'["response.create"]',
        b'"response.create"',
        b"response.create",
        b"\xff response.create",
        b"",
    ],
)
def test_an_event_asks_for_nothing(content: bytes) -> None:
    assert asked(content, REALTIME) is None


def test_only_a_responses_websocket_knows_responses_without_output() -> None:
    assert asked(encoded(type="response.create", generate=False), REALTIME) == Ask("", "", has_output=True)


@pytest.mark.parametrize(
    ("content", "kind", "response_id"),
    [
        (encoded(type="response.created", response={"id": "r1"}), "response.created", "r1"),
        (encoded(response={"id": "r1"}, type="response.created"), "response.created", "r1"),
        (encoded(response={"instructions": LARGE}, type="response.created"), "response.created", ""),
        (encoded(type="response.created", response={"id": "r1", "instructions": LARGE}), "response.created", "r1"),
        (encoded(type="response.output_item.added", response_id="r1"), "response.output_item.added", "r1"),
        (encoded(type="response.done", response={"id": "r1"}), "response.done", "r1"),
        (encoded(type="response.failed", response={"id": "r1"}), "response.failed", "r1"),
        (encoded(type="error", error={"message": "no"}), "error", ""),
    ],
)
def test_an_event_tells_of_a_response(content: bytes, kind: str, response_id: str) -> None:
    found = told(content)
    assert found is not None
    assert (found.kind, found.response_id) == (kind, response_id)


@pytest.mark.parametrize(
    "content",
    [
        encoded(type="response.output_text.delta", delta="response.created"),
        encoded(type="response.output_text.delta", delta='"response.created"'),
        encoded(type="session.created", session={"id": "s1"}),
        encoded(type="conversation.item.added", item={"type": "error"}),
        encoded(type=1, response={}),
        b"response.created",
        b"",
    ],
)
def test_an_event_tells_nothing_of_a_response(content: bytes) -> None:
    assert told(content) is None


def test_an_error_names_the_event_that_caused_it_and_its_status() -> None:
    found = told(encoded(type="error", status=400, stream_id="left", error={"event_id": "mine"}))
    assert found is not None
    assert (found.caused_by, found.status, found.lane) == ("mine", 400, "left")


def test_an_event_names_its_place_and_its_subject() -> None:
    content = encoded(type="response.output_text.delta", response_id="r1", item_id="i1", stream_id="left")
    assert (place(content), subject(content)) == (("r1", "left"), ("r1", "i1"))
    assert subject(encoded(type="conversation.item.done", item={"id": "i2"})) == ("", "i2")


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_message_fails(content: bytes) -> None:
    for one in (content, b'{"type":"response.create"' + content, b'{"type":"response.created"' + content):
        asked(one, RESPONSES)
        told(one)
        place(one)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | inner))
def test_every_spelling_of_a_type_is_read(value: object) -> None:
    spelled = "".join(f"\\u{ord(letter):04x}" for letter in "response.create")
    content = json.dumps({"extra": value, "type": "TYPE"}).replace("TYPE", spelled).encode()
    assert asked(content, REALTIME) == Ask("", "", has_output=True)
