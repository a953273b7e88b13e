import pytest
from support.upstreams.events import chunk, delta

from addon.metering.estimates import text_accumulator as text_accumulator_module
from addon.metering.estimates.text_accumulator import TextAccumulator


def texts(*events: dict[str, object]) -> dict[str, str]:
    accumulator = TextAccumulator()
    for event in events:
        accumulator.add_event(event)
    return {name: text.decode() for name, text in accumulator.texts.items()}


def test_choices_are_kept_apart() -> None:
    assert texts(chunk("a"), chunk("x", index=1), chunk("b"), chunk("y", index=1)) == {"0": "ab", "1": "xy"}


def call(index: int, name: str | None, arguments: str) -> dict[str, object]:
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": index, "function": function}]}}]}


def test_calls_are_kept_apart() -> None:
    made = texts(
        call(0, "now", ""), call(1, "then", "{"), call(0, None, '{"a"'), call(1, None, "}"), call(0, None, ":1}")
    )
    assert made == {"0 0": 'now{"a":1}', "0 1": "then{}"}


def test_refusals_reasoning_and_legacy_calls_are_texts() -> None:
    deltas: list[dict[str, object]] = [
        {"reasoning_content": "Hm"},
        {"reasoning": "m."},
        {"refusal": "No."},
        {"function_call": {"name": "f", "arguments": "{}"}},
    ]
    events: list[dict[str, object]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    assert texts(*events) == {"reasoning 0": "Hmm.", "0": "No.", "0 function": "f{}"}


def test_the_texts_of_a_complete_chat_completion_are_read() -> None:
    message = {
        "content": "Hi",
        "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}, {"custom": {"input": "x"}}],
    }
    assert texts({"choices": [{"index": 0, "message": message}, {"index": 1, "text": "legacy"}]}) == {
        "0": "Hi",
        "0 0": "f{}",
        "0 1": "x",
        "1": "legacy",
    }


def test_the_deltas_of_a_response_are_joined() -> None:
    assert texts(
        delta("Hi"),
        delta(" there"),
        delta("No", "refusal", output_index=1),
        delta("think", "reasoning_text"),
        delta("short", "reasoning_summary_text"),
        {"type": "response.output_item.added", "output_index": 2, "item": {"type": "function_call", "name": "f"}},
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{}"},
        {"type": "response.output_text.done", "text": "Hi there"},
    ) == {"0 0": "Hi there", "1 0": "No", "reasoning 0 0": "think", "2 None": "f{}"}


def test_the_texts_of_a_complete_response_are_read() -> None:
    output = [
        {"type": "reasoning", "summary": [{"text": "short"}], "content": [{"type": "reasoning_text", "text": "think"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "Hi"}, {"type": "refusal", "refusal": "No"}]},
        {"type": "function_call", "name": "f", "arguments": "{}"},
    ]
    assert texts({"output": output, "status": "completed"}) == {"reasoning 0": "think", "1": "HiNo", "2": "f{}"}


@pytest.mark.parametrize(("status", "pending"), [("queued", True), ("in_progress", True), ("completed", False)])
def test_a_response_that_will_be_made_later_is_pending(status: str, pending: bool) -> None:
    accumulator = TextAccumulator()
    accumulator.add_event({"status": status, "output": []})
    assert accumulator.is_pending is pending


def test_audio_is_noted() -> None:
    accumulator = TextAccumulator()
    accumulator.add_event({"choices": [{"delta": {"audio": None}}]})
    assert not accumulator.has_audio
    accumulator.add_event({"choices": [{"delta": {"audio": {"data": "AAAA"}}}]})
    assert accumulator.has_audio


def test_only_the_size_of_text_beyond_the_bound_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_accumulator_module, "MAX_TEXT", 5)
    accumulator = TextAccumulator()
    for piece in ("abc", "def", "ghi"):
        accumulator.add_event(chunk(piece))
    assert (bytes(accumulator.texts["0"]), accumulator.beyond) == (b"abcde", 4)


def test_texts_beyond_a_bound_are_joined() -> None:
    accumulator = TextAccumulator()
    for index in range(1000):
        accumulator.add_event(chunk("x", index=index))
    assert len(accumulator.texts) == 256
    assert sum(map(len, accumulator.texts.values())) == 1000


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"choices": 7},
        {"choices": [7, None, {}, {"delta": 7}, {"delta": {"content": 7, "tool_calls": [7, {"function": 7}]}}]},
        {"output": [7, {}, {"content": [7]}]},
        {"type": "response.output_text.delta", "delta": 7},
        {"type": ["x"], "status": "x"},
    ],
)
def test_a_malformed_event_has_no_text(event: dict[str, object]) -> None:
    assert texts(event) == {}


def test_a_lone_surrogate_is_replaced() -> None:
    assert texts(chunk("\ud83d")) == {"0": "?"}
