import base64
import json
from typing import Any

import pytest

from addon.reading.events import may_name_model, of_event
from store.request import Reading

NO_MODEL = Reading(generates=False)

AUDIO = json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(16_000)).decode()}).encode()

NAMING: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"type": "session.update", "session": {"model": "a"}}, ("a",)),
    ({"type": "session.update", "session": {"audio": {"input": {"transcription": {"model": "a"}}}}}, ("a",)),
    ({"type": "session.update", "session": {"input_audio_transcription": {"model": "a"}}}, ("a",)),
    ({"type": "transcription_session.update", "session": {"input_audio_transcription": {"model": "a"}}}, ("a",)),
    ({"type": "response.create", "response": {"model": "a", "input": []}}, ("a",)),
    ({"type": "response.create", "model": "a", "tools": [{"type": "image_generation", "model": "b"}]}, ("a", "b")),
    ({"type": "session.update", "session": {"fallbacks": ["a"]}}, ("a",)),
    ({"type": "session.update", "MODEL": "a"}, ("a",)),
]


@pytest.mark.parametrize(("event", "models"), NAMING, ids=json.dumps)
def test_the_models_of_an_event_are_read(event: dict[str, Any], models: tuple[str, ...]) -> None:
    content = json.dumps(event).encode()
    assert may_name_model(content)
    assert of_event(content, is_text=True) == Reading(models)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "conversation.item.create", "item": {"content": [{"text": "my model", "model": "a"}]}},
        {"type": "response.create", "response": {"instructions": "Be a model agent."}},
    ],
    ids=json.dumps,
)
def test_an_event_that_names_no_model_generates_with_none(event: dict[str, Any]) -> None:
    content = json.dumps(event).encode()
    assert may_name_model(content)
    assert of_event(content, is_text=True) == NO_MODEL


@pytest.mark.parametrize("content", [AUDIO, b'{"type": "response.create"}', b"", b"no JSON", b'{"x": 1, "x": 1}'])
@pytest.mark.parametrize("is_text", [True, False])
def test_most_messages_are_not_parsed(content: bytes, is_text: bool) -> None:
    assert not may_name_model(content)
    assert of_event(content, is_text=is_text) == NO_MODEL


def test_audio_is_never_taken_for_a_model() -> None:
    assert not may_name_model(b'{"audio": "' + b"model+MODEL/" * 1000 + b'"}')
    assert may_name_model(b'{"audio": "' + b"A" * 1000 + b'", "model": "a"}')
    assert may_name_model(b'{"model": "a", "audio": "' + b"A" * 1000 + b'"}')


SPELLINGS = [
    b'{"session": {"\\u006dodel": "a"}}',
    b'{"session": {"\\u006D\\u006F\\u0064\\u0065\\u006C": "a"}}',
    b'{"session": {"\\u004DODEL": "a"}}',
    b'{"session": {"mode\\u006c_id": "a"}}',
]


@pytest.mark.parametrize("content", SPELLINGS)
def test_a_model_is_found_in_any_spelling(content: bytes) -> None:
    assert may_name_model(content)
    assert of_event(content, is_text=True) == Reading(("a",))


DOUBTFUL = [
    b'{"session": {"model": "a", "model": "b"}}',
    b'{"session": {"model": "a"}} x',
    b'{"session": {"model": "a"}',
    b'["model", "a"]',
    b'\xef\xbb\xbf{"model": "a"}',
    '{"model": "a"}'.encode("utf-16"),
    '{"model": "a"}'.encode("utf-16-be"),
    '{"model": "a"}'.encode("utf-32"),
    b"{'model': 'a'}",
    b'{"preset": "x"}',
]


@pytest.mark.parametrize("content", DOUBTFUL)
def test_an_event_that_may_be_read_differently_is_a_doubt(content: bytes) -> None:
    assert may_name_model(content)
    assert of_event(content, is_text=True).doubt


def test_a_binary_message_that_may_name_a_model_is_a_doubt() -> None:
    assert "Send it as text" in of_event(b'{"model": "a"}', is_text=False).doubt
    assert "Send it as text" in of_event('{"model": "a"}'.encode("utf-16"), is_text=False).doubt


def test_an_ask_may_have_to_name_its_model() -> None:
    assert of_event(b'{"type": "response.create", "model": "a"}', is_text=True, has_to_name=True) == Reading(("a",))
    assert "does not name" in of_event(b'{"type": "response.create"}', is_text=True, has_to_name=True).doubt
    stored = b'{"type": "response.create", "prompt": {"id": "pmpt_1"}}'
    assert "prompt" in of_event(stored, is_text=True, has_to_name=True).doubt
    assert "binary" in of_event(b'{"type": "response.create"}', is_text=False, has_to_name=True).doubt
