import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.demand import TextBound, Vocabulary
from addon.metering import shown_output
from addon.metering.meter import Meter
from addon.metering.shown_output import ShownOutput
from addon.protocol import json_fields
from addon.protocol.json_fields import Fields

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
WORDS = "All that a response says counts, word by word. "


def chunk(text: str) -> dict[str, object]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]}


def delta(text: str) -> dict[str, object]:
    return {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text}


def block(text: str) -> dict[str, object]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


EACH = pytest.mark.parametrize(("endpoint", "event"), [(CHAT, chunk), (RESPONSES, delta), (MESSAGES, block)])


@EACH
def test_the_text_of_events_is_counted_by_an_upper_bound(endpoint: str, event: object) -> None:
    shown = ShownOutput(endpoint)
    assert callable(event)
    for _ in range(100):
        shown.add(json.dumps(event(WORDS)).encode())
    assert shown.is_more_than(1000, "gpt-4o")  # 1,100 in o200k
    assert not shown.is_more_than(2500, "gpt-4o")


def test_it_is_not_more_before_there_are_as_many_bytes() -> None:
    shown = ShownOutput(CHAT)
    shown.add(json.dumps(chunk("ab")).encode())
    assert not shown.is_more_than(2, "gpt-4o")
    assert shown.is_more_than(0, "gpt-4o")


def test_a_repeated_whole_is_not_counted_again() -> None:
    shown = ShownOutput(RESPONSES)
    shown.add(json.dumps(delta(WORDS)).encode())
    whole = {"output": [{"type": "message", "content": [{"type": "output_text", "text": WORDS * 100}]}]}
    shown.add(json.dumps({"type": "response.completed", "response": whole}).encode())
    assert not shown.is_more_than(100, "gpt-4o")


@pytest.mark.parametrize("arguments", ["reasoning_content", "tool_calls"])
def test_reasoning_and_calls_that_are_shown_count(arguments: str) -> None:
    shown = ShownOutput(CHAT)
    value: object = WORDS * 10
    if arguments == "tool_calls":
        value = [{"index": 0, "function": {"name": "look", "arguments": WORDS * 10}}]
    shown.add(json.dumps({"choices": [{"index": 0, "delta": {arguments: value}}]}).encode())
    assert shown.is_more_than(90, "gpt-4o")


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The events that were parsed, in order."""
    events: list[bytes] = []

    def parse_all(held: Sequence[bytes]) -> list[Fields]:
        events.extend(held)
        return json_fields.parse_all(held)

    monkeypatch.setattr(shown_output, "parse_all", parse_all)
    return events


def test_events_without_a_form_are_not_parsed_while_all_their_bytes_are_not_more(parsed: list[bytes]) -> None:
    shown, text = ShownOutput(CHAT), f"{WORDS}\n"
    event = json.dumps(chunk(text)).encode()
    shown.add(event)
    shown.add(event)
    assert parsed == [event] * 2
    enough = 2 * len(text) + 10 * len(event)
    for _ in range(10):
        shown.add(event)
        assert not shown.is_more_than(enough, "gpt-4o")
    assert parsed == [event] * 2
    assert not shown.is_more_than(enough - 1, "gpt-4o")
    assert parsed == [event] * 12
    assert shown.is_more_than(120, "gpt-4o")
    assert parsed == [event] * 12


def test_few_events_are_held_whatever_is_reserved(parsed: list[bytes]) -> None:
    shown, event = ShownOutput(CHAT), json.dumps(chunk(f"{WORDS}\n")).encode()
    for number in range(1000):
        shown.add(event)
        assert not shown.is_more_than(10**9, "gpt-4o")
        assert (number + 1 - len(parsed)) * len(event) <= 16 * 1024


def test_events_of_the_form_of_a_parsed_one_are_not_parsed(parsed: list[bytes]) -> None:
    shown = ShownOutput(CHAT)
    shown.add(json.dumps(chunk("One")).encode())
    assert shown.is_more_than(0, "gpt-4o")
    for _ in range(100):
        shown.add(json.dumps(chunk(WORDS)).encode())
    assert shown.is_more_than(1000, "gpt-4o")
    assert not shown.is_more_than(2500, "gpt-4o")
    assert len(parsed) == 1


def test_an_event_with_escapes_does_not_end_the_form_of_the_others(parsed: list[bytes]) -> None:
    shown = ShownOutput(CHAT)
    for text in ("One", "Two", "a line\n"):
        shown.add(json.dumps(chunk(text)).encode())
    assert shown.is_more_than(0, "gpt-4o")
    for _ in range(100):
        shown.add(json.dumps(chunk(WORDS)).encode())
    assert len(parsed) == 3


def as_if_parsed(texts: Sequence[str]) -> int:
    """Return the tokens of texts that are counted together."""
    bound = TextBound()
    bound.feed("".join(texts).encode())
    return bound.tokens(Vocabulary.O200K)


@pytest.mark.parametrize("pieces", [["\t", "1"], ["A", "\n"], ["1", "\t"], ["word", " \n"], ["a", '"', "b", " "]])
def test_texts_that_are_found_keep_their_places_between_those_that_are_parsed(pieces: list[str]) -> None:
    shown, texts = ShownOutput(CHAT), pieces * 1000
    for text in texts:
        shown.add(json.dumps(chunk(text)).encode())
    assert shown.is_more_than(0, "gpt-4o")
    assert shown.at_most == as_if_parsed(texts)


@given(st.lists(st.sampled_from(["1", "A", "a", " a", "\n", "\t", '"', "é", "Word"]), max_size=60))
def test_all_texts_count_in_their_order(texts: list[str]) -> None:
    shown = ShownOutput(CHAT)
    for text in texts:
        shown.add(json.dumps(chunk(text), ensure_ascii=False).encode())
    assert shown.is_more_than(0, "gpt-4o") == bool(texts)
    assert shown.at_most == as_if_parsed(texts)


def test_an_event_with_two_texts_or_with_audio_gives_no_form() -> None:
    def event(delta: dict[str, object]) -> bytes:
        return json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode()

    two, spoken = ShownOutput(CHAT), ShownOutput(CHAT)
    for _ in range(100):
        two.add(event({"reasoning": "thought", "content": "word"}))
        spoken.add(event({"audio": {"data": "A" * 3000, "transcript": "word"}}))
    for one in (two, spoken):
        one.is_more_than(0, "gpt-4o")
    assert two.at_most == as_if_parsed(["thought", "word"] * 100)
    assert spoken.at_most == as_if_parsed(["word"] * 100) + 600


@pytest.mark.parametrize("text", [b"\xff" * 100, b"\\u00e9" * 100, "é漢🎉".encode() * 100, b'\\"\\n' * 100])
def test_held_events_show_no_more_than_they_count_for(text: bytes) -> None:
    event = json.dumps(chunk("TEXT")).encode().replace(b"TEXT", text)
    held, read = ShownOutput(CHAT), ShownOutput(CHAT)
    held.add(event)
    read.add(event)
    assert read.is_more_than(0, "gpt-4o")
    for tokens in range(0, 1000, 10):
        assert held.is_more_than(tokens, "gpt-4o") or not read.is_more_than(tokens, "gpt-4o")


def test_audio_counts_by_its_length(parsed: list[bytes]) -> None:
    shown = ShownOutput("/v1/realtime")
    event = json.dumps({"type": "response.output_audio.delta", "delta": "A" * 5000}).encode()
    shown.add(event)
    assert not shown.is_more_than(10, "gpt-realtime")
    assert shown.is_more_than(9, "gpt-realtime")
    assert parsed == [event]


@pytest.mark.parametrize("counts", [False, True])
def test_a_meter_counts_what_is_shown_where_that_is_wanted(*, counts: bool) -> None:
    meter = Meter("POST", CHAT, None)
    if counts:
        meter.count_shown_output()
    meter.begin_answer(200, "text/event-stream", "")
    meter.feed_answer(b"data: %b\n\n" % json.dumps(chunk(WORDS)).encode())
    assert meter.shows_more_than(5) == counts
    assert not meter.shows_more_than(1000)
