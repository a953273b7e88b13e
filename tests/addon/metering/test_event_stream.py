import pytest
from support.load.effort import passes
from support.upstreams.events import chat, chunk, delta, response, sse
from support.upstreams.usages import (
    CHAT,
    COMPLETION,
    IMAGE,
    MESSAGE_CACHED,
    MESSAGE_DELTA,
    MESSAGE_START,
    RESPONSE,
    SPEECH,
    TRANSCRIPTION,
)

from addon.metering import event_stream
from addon.metering.event_stream import EventStream
from addon.protocol.partial_json import fields_of_event
from addon.protocol.usage_objects import units_of
from store.ledger.usage import Consumption

CHAT_ENDPOINT, RESPONSES, IMAGES = "/v1/chat/completions", "/v1/responses", "/v1/images/generations"
MESSAGES = "/v1/{other}"
MODEL = "gpt-4o-2024-08-06"
FLEX = (("service_tier", "flex"),)
CHAT_USED = Consumption(MODEL, units_of(CHAT) or {})


def read(data: bytes, endpoint: str = CHAT_ENDPOINT, step: int = 10**6) -> EventStream:
    stream = EventStream(endpoint)
    for start in range(0, len(data), step):
        stream.feed(data[start : start + step])
    return stream


def used(stream: EventStream, asked: str | None = None) -> Consumption | None:
    """Return the usage of the only model, or None."""
    (found,) = stream.consumptions(asked) or (None,)
    return found


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("step", [1, 2, 3, 10**6])
def test_the_last_chunk_of_a_chat_has_its_usage(step: int, end: str) -> None:
    data = chat("Hello", " line\u2028separator", usage=CHAT).replace(b"\n", end.encode())
    stream = read(data, step=step)
    assert (used(stream), stream.is_finished, stream.transcript) == (CHAT_USED, True, None)


def test_a_stream_that_is_split_anywhere_gives_the_same_usage() -> None:
    data = chat("Hello", usage=CHAT)
    for place in range(len(data)):
        stream = EventStream(CHAT_ENDPOINT)
        stream.feed(data[:place])
        stream.feed(data[place:])
        assert used(stream) == CHAT_USED


def test_a_chat_without_include_usage_has_no_usage() -> None:
    stream = read(chat("Hello"))
    assert (used(stream, "gpt-4o"), stream.is_finished, stream.model) == (None, True, MODEL)
    assert stream.transcript is not None


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed"])
def test_the_last_event_of_a_response_has_its_usage(kind: str) -> None:
    events = [response("created"), delta("Hi"), response(kind, usage=RESPONSE, service_tier="flex")]
    stream = read(sse(*events), RESPONSES)
    assert used(stream) == Consumption("gpt-4.1-2025-04-14", units_of(RESPONSE) or {}, FLEX)
    assert stream.is_finished


@pytest.mark.parametrize(
    ("endpoint", "kind", "usage", "beside"),
    [
        (IMAGES, "image_generation.completed", IMAGE, {"output_images": 1}),
        ("/v1/images/edits", "image_edit.completed", IMAGE, {"output_images": 1}),
        ("/v1/audio/transcriptions", "transcript.text.done", TRANSCRIPTION, {}),
        ("/v1/audio/speech", "speech.audio.done", SPEECH, {}),
    ],
)
def test_the_last_event_of_other_streams_has_their_usage(
    endpoint: str, kind: str, usage: dict[str, object], beside: dict[str, int]
) -> None:
    stream = read(sse({"type": "some.delta", "delta": "x"}, {"type": kind, "usage": usage}), endpoint)
    assert used(stream, "asked") == Consumption("asked", {**beside, **(units_of(usage) or {})})
    assert stream.is_finished


def chat_usage(completion_tokens: int) -> dict[str, object]:
    total = CHAT_USED.units["input_tokens"] + completion_tokens
    return {**CHAT, "completion_tokens": completion_tokens, "total_tokens": total}


def test_the_last_of_several_usages_counts() -> None:
    running = [chunk("a", usage=chat_usage(count)) for count in (1, 2, 3)]
    stream = read(sse(*running))
    assert used(stream) == Consumption(MODEL, {**CHAT_USED.units, "output_tokens": 3})
    assert not stream.is_finished
    stream.feed(sse(chunk(finish="stop", usage=CHAT)))
    assert used(stream) == CHAT_USED
    assert stream.is_finished


def test_a_text_that_looks_like_a_usage_is_ignored() -> None:
    stream = read(chat('"usage": {"prompt_tokens": 5}', 'x"usage":{'))
    assert used(stream) is None


def test_a_nested_usage_is_ignored() -> None:
    stream = read(sse(chunk("x", choices=[{"usage": CHAT}], other={"usage": CHAT})))
    assert used(stream) is None


def test_what_cohere_bills_is_found_at_the_end_of_a_long_stream() -> None:
    units = {"input_tokens": 5, "output_tokens": 7}
    end = {"event_type": "stream-end", "response": {"meta": {"billed_units": units}}}
    stream = read(sse(*[{"event_type": "text-generation", "text": "x"}] * 20, end), "/v1/{other}")
    assert used(stream, "command-a") == Consumption("command-a", units)


def test_the_advice_of_a_second_model_is_used_too() -> None:
    started = {
        "type": "message_start",
        "message": {"model": "claude", "usage": {"input_tokens": 5, "output_tokens": 1}},
    }
    advice = {"type": "advisor_message", "model": "advisor", "input_tokens": 3, "output_tokens": 2}
    ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    stream = read(sse(started, {**ended, "usage": {"output_tokens": 7, "iterations": [advice]}}), MESSAGES)
    answered = Consumption("claude", {"input_tokens": 5, "output_tokens": 7})
    assert stream.consumptions(None) == (answered, Consumption("advisor", {"input_tokens": 3, "output_tokens": 2}))


def test_the_model_is_searched_in_the_first_events() -> None:
    first = {"choices": [], "model": "", "prompt_filter_results": []}
    assert read(sse(first, ": comment", "no JSON", chunk("x"))).model == MODEL
    assert read(sse(*["no JSON"] * 8, chunk("x"))).model is None


LARGE = "x" * (5 * 1024 * 1024)


def test_an_event_beyond_the_bound_keeps_its_usage() -> None:
    huge = response("completed", output=LARGE, usage=RESPONSE)
    stream = read(sse(response("created"), delta("Hi"), huge), RESPONSES)
    assert used(stream) == Consumption("gpt-4.1-2025-04-14", units_of(RESPONSE) or {})
    assert stream.is_finished
    image = {"type": "image_generation.completed", "b64_json": LARGE, "usage": IMAGE}
    units = {"output_images": 1, **(units_of(IMAGE) or {})}
    assert used(read(sse(image), IMAGES), "gpt-image-1") == Consumption("gpt-image-1", units)


def test_an_event_beyond_the_bound_without_a_usage_changes_nothing() -> None:
    stream = read(sse(response("created"), delta("Hi"), response("completed", output=LARGE)), RESPONSES)
    assert used(stream) is None
    assert stream.transcript is not None
    assert not stream.transcript.is_empty()


@pytest.mark.parametrize("bad", [b"\xff", b"\xe2\x82", b"\xed\xa0\x80"])
def test_a_bad_byte_in_a_text_hides_no_usage(bad: bytes) -> None:
    stream = read(sse(chunk("Hi!", usage=CHAT)).replace(b"!", bad))
    assert used(stream) == CHAT_USED


def test_only_the_last_of_many_usages_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []

    def counted(data: bytes, *, is_cut: bool) -> dict[str, object]:
        lengths.append(len(data))
        return fields_of_event(data, is_cut=is_cut)

    monkeypatch.setattr(event_stream, "fields_of_event", counted)
    stream = read(sse(*[chunk("a", usage=chat_usage(count)) for count in range(3000)]))
    before = len(lengths)
    assert before < 1100
    for _ in range(3):
        assert used(stream) == Consumption(MODEL, {**CHAT_USED.units, "output_tokens": 2999})
    assert len(lengths) == before + 1
    assert (stream.is_finished, stream.is_partial) == (False, False)


@pytest.mark.parametrize(
    ("last", "is_finished", "is_partial"),
    [
        (chunk(finish="stop", usage=CHAT), True, False),
        ("[DONE]", True, False),
        (chunk(other={"usage": {}}), False, True),
    ],
)
def test_the_last_of_many_usages_shows_whether_it_is_final(last: object, is_finished: bool, is_partial: bool) -> None:
    stream = read(sse(*[chunk("a", usage=CHAT)] * 2000, last))
    assert used(stream) == CHAT_USED
    assert (stream.is_finished, stream.is_partial) == (is_finished, is_partial)


def test_many_large_usages_are_read_fast() -> None:
    events = (b'data: {"usage":{},"x":[' + b"[]," * 70_000 + b"[]]}\n\n") * 100
    assert passes(lambda: read(events)) < 70  # 22; 170 where all are parsed


def test_the_usage_of_a_large_response_is_read() -> None:
    huge = response("completed", output="x" * (3 * 1024 * 1024), usage=RESPONSE, user=None)
    stream = read(sse(response("created"), huge), RESPONSES)
    assert used(stream) == Consumption("gpt-4.1-2025-04-14", units_of(RESPONSE) or {})


def test_a_response_with_a_lone_surrogate_is_read() -> None:
    data = sse(response("completed", output=["HALF"], usage=RESPONSE)).replace(b"HALF", b"\\ud83d")
    assert used(read(data, RESPONSES)) == Consumption("gpt-4.1-2025-04-14", units_of(RESPONSE) or {})


def test_a_message_of_anthropics_has_its_usage_in_two_events() -> None:
    started = {"type": "message_start", "message": {"model": "claude", "usage": MESSAGE_START}}
    stopped = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": MESSAGE_DELTA}
    stream = read(sse(started), MESSAGES)
    assert used(stream) == Consumption("claude", {"input_tokens": 25, "output_tokens": 1})
    assert not stream.is_finished
    stream.feed(sse({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 7, "input_tokens": None}}))
    assert not stream.is_finished
    stream.feed(sse(stopped, {"type": "message_stop"}))
    assert used(stream) == Consumption("claude", {"input_tokens": 25, "output_tokens": 15})
    assert stream.is_finished


def test_the_cached_tokens_of_a_message_of_anthropics_are_part_of_its_input() -> None:
    started = {"type": "message_start", "message": {"model": "claude", "usage": {**MESSAGE_CACHED, "output_tokens": 1}}}
    stopped = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 393}}
    assert used(read(sse(started, stopped), MESSAGES)) == Consumption("claude", units_of(MESSAGE_CACHED) or {})


@pytest.mark.parametrize(
    "event", [response("created", usage=RESPONSE), {"object": "thread.run.step", "usage": COMPLETION}]
)
def test_a_usage_before_the_end_is_not_final(event: object) -> None:
    stream = read(sse(event), RESPONSES)
    assert used(stream) is not None
    assert not stream.is_finished


def test_the_tier_that_served_counts_not_the_one_that_was_asked_for() -> None:
    events = [response("created", service_tier="flex"), response("completed", usage=RESPONSE, service_tier="default")]
    found = used(read(sse(*events), RESPONSES))
    assert found is not None
    assert found.conditions == ()


def test_conditions_of_the_first_usage_hold_for_the_last() -> None:
    usage = {"input_tokens": 9, "output_tokens": 1, "service_tier": "batch", "speed": "fast", "inference_geo": "us"}
    start = {"type": "message_start", "message": {"model": "claude-opus-5", "usage": usage}}
    delta_event = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 40}}
    found = used(read(sse(start, delta_event), "/v1/messages"))
    assert found == Consumption(
        "claude-opus-5",
        {"input_tokens": 9, "output_tokens": 40},
        (("processing", "batch"), ("speed", "fast"), ("inference_geo", "us")),
    )


def item(number: int, **fields: object) -> dict[str, object]:
    return {"id": f"item_{number}", "status": "completed", **fields}


CALLS = [
    item(0, type="web_search_call", action={"type": "search", "query": "cats"}),
    item(1, type="web_search_call", action={"type": "open_page", "url": "https://example.org"}),
    item(2, type="file_search_call", queries=["cats"]),
    item(3, type="code_interpreter_call", container_id="cntr_1"),
    item(4, type="message", content=[{"type": "output_text", "text": '"type": "web_search_call"'}]),
]
CALLED = {"web_searches": 1, "storage_searches": 1, "code_containers": 1}


@pytest.mark.parametrize("answer", ["", "A" * 5 * 1024 * 1024], ids=["whole", "cut"])
def test_tools_that_were_called_are_counted_in_a_stream(answer: str) -> None:
    done = [{"type": "response.output_item.done", "output_index": at, "item": call} for at, call in enumerate(CALLS)]
    added = [{"type": "response.output_item.added", "output_index": at, "item": call} for at, call in enumerate(CALLS)]
    last = response("completed", usage=RESPONSE, output=[*CALLS, item(9, type="message", content=answer)])
    deltas = [delta("Hi")] * 20
    found = used(read(sse(response("created"), *added, *deltas, *done, last), RESPONSES))
    assert found is not None
    assert {name: found.units.get(name) for name in CALLED} == CALLED


def test_the_last_event_of_a_stream_that_was_resumed_has_all_calls() -> None:
    found = used(read(sse(delta("Hi"), response("completed", usage=RESPONSE, output=CALLS)), RESPONSES))
    assert found is not None
    assert {name: found.units.get(name) for name in CALLED} == CALLED


@pytest.mark.parametrize(
    ("events", "pending", "ended"),
    [
        ([response("queued", id="resp_1", object="response", status="queued")], "resp_1", None),
        ([response("created", id="resp_1", object="response", status="in_progress"), delta("Hi")], "resp_1", None),
        ([response("completed", id="resp_1", object="response", status="completed", usage=RESPONSE)], None, "resp_1"),
        ([{"object": "thread.run", "id": "run_1", "status": "requires_action", "usage": None}], "run_1", None),
        ([{"object": "thread.run.step", "id": "step_1", "status": "completed", "usage": CHAT}], None, None),
        ([chunk("Hi")], None, None),
    ],
)
def test_the_object_that_a_stream_tells_of_is_known(
    events: list[dict[str, object]], pending: str | None, ended: str | None
) -> None:
    stream = read(sse(*events), RESPONSES)
    assert (stream.pending_id, stream.ended_id) == (pending, ended)


def test_an_image_that_a_response_made_is_counted_also_where_its_event_is_large() -> None:
    made = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "A" * 5 * 1024 * 1024}
    events = [response("created"), {"type": "response.output_item.done", "output_index": 0, "item": made}]
    used = read(sse(*events, response("completed", output=[made], usage=RESPONSE)), RESPONSES).consumptions(None)
    assert [(each.units["output_images"], each.units["tool_calls"]) for each in used] == [(1, 1)]


def test_images_of_a_stream_are_counted() -> None:
    made = {"type": "image_generation.completed", "b64_json": "A" * 300_000, "usage": IMAGE}
    (used,) = read(sse({"type": "image_generation.partial_image", "b64_json": "A"}, made, made), IMAGES).consumptions(
        "m"
    )
    assert used.units["output_images"] == 2
