import gzip
import json
import tracemalloc
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from support.upstreams.events import chat, chunk, delta, response, sse
from support.upstreams.usages import (
    CHAT,
    EMBEDDING,
    IMAGE,
    MESSAGE_CACHED,
    REALTIME,
    RESPONSE,
    TRANSCRIPTION,
    WHISPER,
)

from addon.metering import body as body_module
from addon.metering import event_stream
from addon.metering import meter as meter_module
from addon.metering.body import Body
from addon.metering.estimates.estimate_request import separated
from addon.metering.event_stream import EventStream
from addon.metering.meter import Meter
from addon.metering.session import Session
from addon.protocol.head_and_tail import HeadAndTail
from addon.protocol.usage_objects import units_of
from store.ledger.usage import Consumption, Metered, Source, Told

CHAT_ENDPOINT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
SPEECH, TRANSCRIPTIONS = "/v1/audio/speech", "/v1/audio/transcriptions"
JSON, EVENTS = "application/json", "text/event-stream; charset=utf-8"
ASKED = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
MODEL = "gpt-4o-2024-08-06"
CHAT_UNITS = units_of(CHAT) or {}
ANSWER = {"model": MODEL, "choices": [{"index": 0, "message": {"content": "Hello"}}], "usage": CHAT}
OBSERVED = Metered(Source.OBSERVED, (Consumption(MODEL, CHAT_UNITS),), "gpt-4o", MODEL)


def asked(endpoint: str = CHAT_ENDPOINT, request: object = ASKED) -> Meter:
    meter = Meter("POST", endpoint, None)
    meter.begin_request(JSON, "")
    meter.feed_request(json.dumps(request).encode())
    return meter


def answered(
    meter: Meter,
    data: object,
    content_type: str = JSON,
    *,
    coding: str = "",
    status: int = 200,
    step: int = 10**7,
    cut: bool = False,
) -> Meter:
    meter.begin_answer(status, content_type, coding)
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    for start in range(0, len(body), step):
        meter.feed_answer(body[start : start + step])
    if not cut:
        meter.end_answer()
    return meter


def test_the_usage_of_a_document_is_read() -> None:
    meter = answered(asked(), ANSWER)
    assert meter.read() == OBSERVED
    assert meter.estimate_request() is None
    assert meter.request_bytes == len(json.dumps(ASKED))
    assert meter.response_bytes == len(json.dumps(ANSWER))


CODINGS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstandard.compress}


@pytest.mark.parametrize("step", [1, 3, 10**7])
@pytest.mark.parametrize("coding", CODINGS)
def test_the_usage_of_a_compressed_response_is_read_in_chunks_of_any_size(coding: str, step: int) -> None:
    encode = CODINGS[coding]
    assert answered(asked(), encode(json.dumps(ANSWER).encode()), coding=coding, step=step).read() == OBSERVED
    assert answered(asked(), encode(chat("Hi", usage=CHAT)), EVENTS, coding=coding, step=step).read() == OBSERVED


@pytest.mark.parametrize("step", [1, 10**7])
def test_the_usage_of_a_stream_is_read(step: int) -> None:
    meter = answered(asked(), chat("Hello", " there", usage=CHAT), EVENTS, step=step)
    assert meter.read() == OBSERVED
    assert meter.estimate_request() is None


def test_a_meter_may_be_read_at_any_time() -> None:
    meter = Meter("POST", CHAT_ENDPOINT, None)
    readings = [meter.read()]
    meter.begin_request(JSON, "")
    data = json.dumps(ASKED).encode()
    for start in range(0, len(data), 10):
        meter.feed_request(data[start : start + 10])
        readings.append(meter.read())
    assert readings == [*[Metered()] * 4, *[Metered(model_asked="gpt-4o")] * (len(readings) - 4)]
    meter.begin_answer(200, EVENTS, "")
    for event, model in ((chunk("Hello"), None), ({**chunk(), "choices": [], "usage": CHAT}, MODEL)):
        assert meter.read() == Metered(model_asked="gpt-4o", model=model)
        meter.feed_answer(sse(event))
    assert meter.read() == meter.read() == OBSERVED


def test_the_usage_of_a_large_document_is_read() -> None:
    vectors = {"data": [{"embedding": [0.1234] * 50_000}], "model": "text-embedding-3-small", "usage": EMBEDDING}
    meter = answered(asked(EMBEDDINGS, {"model": "m", "input": "x"}), vectors, step=10_000)
    assert meter.read().consumptions == (Consumption("text-embedding-3-small", {"input_tokens": 8}),)


def test_the_model_of_a_large_request_is_read() -> None:
    long = [{"role": "user", "content": "x" * 2_000_000}]
    assert asked(request={"model": "m", "messages": long}).read().model_asked == "m"
    assert asked(request={"messages": long, "model": "m"}).read().model_asked == "m"


def test_the_model_of_a_compressed_request_is_read() -> None:
    meter = Meter("POST", CHAT_ENDPOINT, None)
    meter.begin_request("application/json; charset=utf-8", "gzip")
    meter.feed_request(gzip.compress(json.dumps(ASKED).encode()))
    assert meter.read().model_asked == "gpt-4o"


def test_a_compressed_request_is_decoded_up_to_a_bound() -> None:
    meter = Meter("POST", CHAT_ENDPOINT, None)
    meter.begin_request(JSON, "gzip")
    lines = [f"{number} and so on and so forth" for number in range(300_000)]
    data = gzip.compress(json.dumps({"messages": lines, "last": {"model": "no"}, "model": "m"}).encode(), 1)
    meter.feed_request(data)
    assert meter.read().model_asked is None


@pytest.mark.parametrize(("usage", "model"), [(TRANSCRIPTION, "gpt-4o-transcribe"), (WHISPER, "whisper-1")])
def test_a_form_names_the_model_of_a_transcription(usage: dict[str, Any], model: str) -> None:
    meter = Meter("POST", TRANSCRIPTIONS, None)
    meter.begin_request("multipart/form-data; boundary=x", "")
    meter.feed_request(
        b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + bytes(500_000) + b"\r\n"
        b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + model.encode() + b"\r\n--x--\r\n"
    )
    answered(meter, {"text": "Hi", "usage": usage})
    assert meter.read() == Metered(Source.OBSERVED, (Consumption(model, units_of(usage) or {}),), model, model)


@pytest.mark.parametrize(
    ("answer", "asked_for", "images"),
    [
        ({"data": [{"b64_json": "A"}] * 2}, {}, 2),
        ({"data": [{"b64_json": "A" * 300_000}] * 3}, {"n": 3}, 3),
        ({"data": [{"b64_json": "A" * 300_000}]}, {}, 1),
    ],
)
def test_images_are_counted_for_the_model_asked(answer: Any, asked_for: Any, images: int) -> None:
    with_usage = answered(
        asked("/v1/images/generations", {"model": "gpt-image-1", **asked_for}), {**answer, "usage": IMAGE}
    )
    used = Consumption("gpt-image-1", {**(units_of(IMAGE) or {}), "output_images": images})
    assert with_usage.read().consumptions == (used,)
    without = answered(asked("/v1/images/generations", {"model": "dall-e-3", **asked_for}), answer).read()
    assert without == Metered(
        Source.OBSERVED, (Consumption("dall-e-3", {"output_images": images}),), "dall-e-3", "dall-e-3"
    )


def test_images_that_were_not_made_are_not_counted() -> None:
    failed = answered(asked("/v1/images/generations", {"model": "dall-e-3"}), {"data": []}, status=400)
    assert failed.read() == Metered(model_asked="dall-e-3")
    cut = answered(asked("/v1/images/generations", {"model": "dall-e-3"}), {"data": [{"url": "u"}]}, cut=True)
    assert cut.read().source is Source.UNKNOWN


BACKGROUND: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "status": "queued",
    "model": MODEL,
    "output": [],
    "usage": None,
}


def test_a_response_in_the_background_is_told_later() -> None:
    made = answered(asked(RESPONSES, {"model": "gpt-4o", "background": True}), BACKGROUND)
    assert made.read() == Metered(model_asked="gpt-4o", model=MODEL, pending_id="resp_1")
    cut = answered(asked(RESPONSES), sse({"type": "response.created", "response": BACKGROUND}), EVENTS, cut=True)
    assert cut.read().pending_id == "resp_1"


COMPLETED = {**BACKGROUND, "status": "completed", "usage": RESPONSE}
TOLD = (Told("resp_1", (Consumption(MODEL, units_of(RESPONSE) or {}),), MODEL),)


@pytest.mark.parametrize(("endpoint", "method"), [("/v1/responses/{id}", "GET"), ("/v1/responses/{id}/cancel", "POST")])
def test_a_later_request_tells_the_usage(endpoint: str, method: str) -> None:
    assert answered(Meter(method, endpoint, None), COMPLETED).read() == Metered(told=TOLD)
    assert answered(Meter(method, endpoint, None), BACKGROUND).read() == Metered()
    events = sse({"type": "response.completed", "response": COMPLETED})
    assert answered(Meter(method, endpoint, None), events, EVENTS).read() == Metered(told=TOLD)
    assert answered(Meter(method, endpoint, None), COMPLETED, cut=True).read() == Metered()


def test_an_object_that_has_ended_without_usage_is_told_too() -> None:
    cancelled = {**BACKGROUND, "status": "cancelled"}
    told = answered(Meter("GET", "/v1/responses/{id}", None), cancelled).read().told
    assert told == (Told("resp_1", (), MODEL),)


BATCH_USAGE = {"input_tokens": 1000, "output_tokens": 50, "total_tokens": 1050}
EVAL = [
    {
        "model_name": "gpt-4o",
        "invocation_count": 2,
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "total_tokens": 14,
        "cached_tokens": 6,
    },
    {
        "model_name": "o3",
        "invocation_count": 1,
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "total_tokens": 9,
        "cached_tokens": 0,
    },
]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            {"id": "batch_1", "object": "batch", "status": "completed", "model": MODEL, "usage": BATCH_USAGE},
            Consumption(MODEL, {"input_tokens": 1000, "output_tokens": 50}, (("processing", "batch"),)),
        ),
        (
            {"id": "video_1", "object": "video", "status": "completed", "model": "sora-2", "seconds": "8"},
            Consumption("sora-2", {"video_seconds": 8}),
        ),
        (
            {"id": "run_1", "object": "thread.run", "status": "completed", "model": MODEL, "usage": CHAT},
            Consumption(MODEL, CHAT_UNITS),
        ),
    ],
)
def test_each_kind_of_object_tells_its_usage(answer: Any, told: Consumption) -> None:
    expected = Told(answer["id"], (told,), answer["model"])
    assert answered(Meter("GET", "/v1/{other}", None), answer).read().told == (expected,)
    listed = {"object": "list", "data": [answer, {"id": "file_1", "object": "file", "status": "processed"}]}
    assert answered(Meter("GET", "/v1/{other}", None), listed).read().told == (expected,)


def test_a_run_of_evals_tells_the_usage_of_each_model() -> None:
    answer = {"id": "evalrun_1", "object": "eval.run", "status": "completed", "model": "o3", "per_model_usage": EVAL}
    (told,) = answered(Meter("GET", "/v1/evals/{id}/runs/{id}", None), answer).read().told
    assert told.consumptions == (
        Consumption("gpt-4o", {"input_tokens": 10, "cache_read_tokens": 6, "output_tokens": 4}),
        Consumption("o3", {"input_tokens": 7, "cache_read_tokens": 0, "output_tokens": 2}),
    )


def test_a_video_that_was_extended_is_not_told_as_a_whole() -> None:
    answer = {"id": "video_2", "object": "video", "status": "queued", "model": "sora-2", "seconds": "8"}
    assert answered(asked("/v1/videos"), answer).read().pending_id == "video_2"
    assert answered(asked("/v1/videos/extensions"), answer).read().pending_id is None


def test_a_document_whose_calls_cannot_be_read_is_a_lower_bound() -> None:
    tools = [{"type": "web_search"}]
    last = {"type": "message", "content": "A" * 3 * 1024 * 1024}
    whole = {"model": MODEL, "output": [], "tools": tools, "usage": RESPONSE}
    assert not answered(asked(RESPONSES), whole).read().is_minimum
    cut = {"model": MODEL, "output": [last], "usage": RESPONSE, "tools": tools}
    assert answered(asked(RESPONSES), cut).read().is_minimum
    assert not answered(asked(RESPONSES), {**cut, "tools": [{"type": "function"}]}).read().is_minimum


def test_a_model_that_always_searches_has_searched() -> None:
    answer = {**ANSWER, "model": "gpt-4o-search-preview-2025-03-11"}
    (used,) = answered(asked(), answer).read().consumptions
    assert used.units["web_searches"] == 1


@pytest.mark.parametrize(
    ("method", "endpoint"),
    [
        ("GET", "/v1/responses/{id}"),
        ("GET", "/v1/chat/completions"),
        ("HEAD", "/v1/responses/{id}"),
        ("DELETE", "/v1/responses/{id}"),
        ("POST", "/v1/responses/{id}/cancel"),
        ("POST", "/v1/chat/completions/{id}"),
        ("POST", "/v1/threads/{id}/runs/{id}"),
        ("POST", "/v1/threads/{id}/runs/{id}/submit_tool_outputs"),
    ],
)
def test_a_response_that_was_made_before_is_not_counted_again(method: str, endpoint: str) -> None:
    assert answered(Meter(method, endpoint, None), {"model": "m", "usage": RESPONSE}).read() == Metered()
    assert (
        answered(Meter(method, endpoint, None), sse(response("completed", usage=RESPONSE)), EVENTS).read() == Metered()
    )


@pytest.mark.parametrize(
    "endpoint",
    ["/v1/threads/{id}/runs", "/v1/responses/{id}", "/v1/{other}"],
)
def test_the_usage_of_an_unknown_endpoint_is_read(endpoint: str) -> None:
    assert answered(asked(endpoint), ANSWER).read() == OBSERVED
    assert answered(asked(endpoint), chat("Hello", usage=CHAT), EVENTS).read() == OBSERVED


def test_the_usage_of_a_message_of_anthropics_is_read() -> None:
    meter = answered(asked("/v1/{other}"), {"type": "message", "model": "claude", "usage": MESSAGE_CACHED})
    assert meter.read().consumptions == (Consumption("claude", units_of(MESSAGE_CACHED) or {}),)


@pytest.mark.parametrize("status", [400, 429, 500])
def test_an_error_has_no_usage(status: int) -> None:
    answers = (({"error": {"message": "No."}}, JSON), (ANSWER, JSON), (chat("Hello", usage=CHAT), EVENTS))
    for answer, content_type in answers:
        meter = answered(asked(), answer, content_type, status=status)
        assert meter.read() == Metered(model_asked="gpt-4o")
        assert meter.estimate_request() is None


@pytest.mark.parametrize("filler", [{}, {"data": "x" * 100_000}])
def test_the_usage_of_a_document_that_was_cut_is_unknown(filler: dict[str, str]) -> None:
    data = json.dumps({**filler, **ANSWER, "last": {"usage": CHAT}}).encode()[:-1]
    meter = answered(asked(), data, cut=True)
    assert meter.read().source is Source.UNKNOWN
    assert meter.estimate_request() is not None


def test_the_usage_of_a_document_that_decodes_beyond_its_bound_is_unknown() -> None:
    data = gzip.compress(json.dumps({**ANSWER, "last": " " * 20_000_000}).encode())
    assert answered(asked(), data, coding="gzip").read().source is Source.UNKNOWN


def test_lone_surrogates_and_byte_order_marks_are_accepted() -> None:
    answer = json.dumps({"model": MODEL, "choices": [{"message": {"content": "\ud83d"}}], "usage": CHAT}).encode()
    assert answered(asked(), answer).read() == OBSERVED
    bom = b"\xef\xbb\xbf"
    meter = Meter("POST", CHAT_ENDPOINT, None)
    meter.begin_request(JSON, "")
    meter.feed_request(bom + json.dumps(ASKED).encode())
    assert answered(meter, bom + answer).read() == OBSERVED
    wanted = answered(meter, bom + json.dumps({**ANSWER, "usage": None}).encode()).estimate_request()
    assert wanted is not None
    assert json.loads(wanted.request) == ASKED
    assert json.loads(wanted.events)["model"] == MODEL


def test_a_document_without_usage_can_be_estimated() -> None:
    wanted = answered(asked(), {**ANSWER, "usage": None, "service_tier": "flex"}).estimate_request()
    assert wanted is not None
    assert (wanted.endpoint, wanted.model, wanted.conditions) == (CHAT_ENDPOINT, MODEL, (("service_tier", "flex"),))
    assert json.loads(wanted.request) == ASKED
    assert json.loads(wanted.events)["choices"] == ANSWER["choices"]


@pytest.mark.parametrize("cut", [True, False])
def test_a_stream_without_usage_can_be_estimated(cut: bool) -> None:
    data = chat("Hello", " there")[: -40 if cut else None]
    meter = answered(asked(), data, EVENTS, cut=cut)
    assert meter.read() == Metered(model_asked="gpt-4o", model=MODEL)
    wanted = meter.estimate_request()
    assert wanted is not None
    assert (wanted.model, wanted.model_asked) == (MODEL, "gpt-4o")
    contents = [json.loads(event)["choices"][0]["delta"].get("content") for event in separated(wanted.events)]
    assert contents[:2] == ["Hello", " there"]


def test_a_response_that_was_cut_can_be_estimated() -> None:
    meter = asked(RESPONSES, {"model": "gpt-4.1", "input": "Hi"})
    answered(meter, sse(response("created"), delta("Hello")), EVENTS, cut=True)
    wanted = meter.estimate_request()
    assert wanted is not None
    assert wanted.model == "gpt-4.1-2025-04-14"


@pytest.mark.parametrize(
    ("endpoint", "content_type", "data"),
    [
        (CHAT_ENDPOINT, EVENTS, b""),
        (CHAT_ENDPOINT, EVENTS, b": comment\n\ndata: [DONE]\n\n"),
        (CHAT_ENDPOINT, JSON, b""),
        (CHAT_ENDPOINT, "text/html", b"<html>"),
        (EMBEDDINGS, JSON, b'{"data": []}'),
        ("/v1/images/generations", EVENTS, sse(chunk("Hi"))),
    ],
)
def test_an_empty_response_is_not_estimated(endpoint: str, content_type: str, data: bytes) -> None:
    assert answered(asked(endpoint), data, content_type).estimate_request() is None


def test_a_large_request_is_left_out_of_the_estimate() -> None:
    large = {"model": "m", "messages": [{"role": "user", "content": "x" * 2_000_000}]}
    wanted = answered(asked(request=large), chat("Hi"), EVENTS).estimate_request()
    assert wanted is not None
    assert wanted.request == b""
    assert wanted.model_asked == "m"


RUNNING = sse(chunk("Hello", usage={**CHAT, "completion_tokens": 1}), chunk(" there", usage=CHAT))


@pytest.mark.parametrize(
    ("end", "cut", "source"),
    [
        (b"", True, Source.ESTIMATED),
        (b"", False, Source.OBSERVED),
        (b"data: [DONE]\n\n", True, Source.OBSERVED),
        (sse(chunk(finish="stop", usage=CHAT)), True, Source.OBSERVED),
        (sse({**chunk(), "choices": [], "usage": CHAT}), True, Source.OBSERVED),
    ],
)
def test_an_interim_usage_of_a_stream_that_was_cut_is_an_estimate(end: bytes, cut: bool, source: Source) -> None:
    meter = answered(asked(), RUNNING + end, EVENTS, cut=cut)
    is_minimum = source is Source.ESTIMATED
    assert meter.read() == Metered(source, (Consumption(MODEL, CHAT_UNITS),), "gpt-4o", MODEL, is_minimum)
    assert meter.estimate_request() is None


def test_a_corrupt_stream_is_read_as_far_as_it_goes() -> None:
    coder = zstandard.ZstdCompressor().compressobj()
    data = coder.compress(chat("Hello", usage=None)) + coder.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    meter = answered(asked(), data + b"\xff" * 100 + data, EVENTS, coding="zstd", cut=True)
    assert meter.read() == Metered(model_asked="gpt-4o", model=MODEL)
    assert meter.estimate_request() is not None


@pytest.mark.parametrize("coding", ["new", "gzip, br", "\ud800"])
def test_an_unknown_coding_is_not_read(coding: str) -> None:
    meter = answered(asked(), ANSWER, coding=coding)
    assert meter.read() == Metered(model_asked="gpt-4o")
    assert meter.estimate_request() is None


def test_a_body_that_decodes_beyond_its_bound_is_not_read_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "MAX_DECODED", 10_000)
    filler = b": comment\n\n" * 2000
    meter = answered(asked(), gzip.compress(filler + chat("Hi", usage=CHAT)), EVENTS, coding="gzip")
    assert meter.read().source is Source.UNKNOWN


@pytest.mark.parametrize("model", ["tts-1", "tts-1-hd"])
def test_speech_by_the_character_is_counted_in_the_request(model: str) -> None:
    meter = asked(SPEECH, {"model": model, "input": "Grüße!", "voice": "alloy"})
    assert meter.read() == Metered(model_asked=model)
    answered(meter, b"ID3", "audio/mpeg")
    assert meter.read() == Metered(Source.ESTIMATED, (Consumption(model, {"input_characters": 6}),), model, model)
    assert meter.estimate_request() is None


def test_long_speech_is_counted() -> None:
    meter = answered(asked(SPEECH, {"model": "tts-1", "input": "x" * 500_000}), b"ID3", "audio/mpeg")
    assert meter.read().consumptions == (Consumption("tts-1", {"input_characters": 500_000}),)


@pytest.mark.parametrize("given", ["", None, 7, "x" * 2_000_000, "\ud83d"])
def test_the_usage_of_speech_without_a_readable_text_is_unknown(given: object) -> None:
    meter = answered(asked(SPEECH, {"model": "tts-1", "input": given}), b"ID3", "audio/mpeg")
    assert meter.read() == Metered(model_asked="tts-1")


def test_the_usage_of_other_speech_is_unknown() -> None:
    meter = answered(asked(SPEECH, {"model": "gpt-4o-mini-tts", "input": "Hi"}), b"ID3", "audio/mpeg")
    assert meter.read() == Metered(model_asked="gpt-4o-mini-tts")


def test_a_websocket_is_read() -> None:
    meter = Meter("GET", "/v1/realtime", "gpt-realtime")
    meter.begin_socket()
    messages = [
        {"type": "response.created", "response": {"id": "1"}},
        {"type": "response.done", "response": {"id": "1", "usage": REALTIME}},
    ]
    for message in messages:
        meter.feed_message(json.dumps(message).encode(), from_client=False, is_text=True)
    meter.feed_message(b"12345", from_client=True, is_text=True)
    meter.feed_message(b"\x00" * 10, from_client=False, is_text=False)
    assert meter.read() == Metered(
        Source.OBSERVED, (Consumption("gpt-realtime", units_of(REALTIME) or {}),), "gpt-realtime", "gpt-realtime"
    )
    assert meter.estimate_request() is None
    assert (meter.request_bytes, meter.response_bytes) == (5, 10 + sum(len(json.dumps(one)) for one in messages))


def fail(*_: object, **__: object) -> None:
    raise RuntimeError("a secret")


def test_a_fault_ends_the_reading_and_raises_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(event_stream, "fields_of_event", fail)
    meter = answered(asked(), chat("Hi", usage=CHAT), EVENTS)
    assert meter.read() == Metered(model_asked="gpt-4o")
    assert meter.estimate_request() is None
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "broken",
    [
        (meter_module, "is_json"),
        (meter_module, "media_type"),
        (meter_module, "fields_of"),
        (Body, "feed"),
        (HeadAndTail, "feed"),
        (EventStream, "__init__"),
        (EventStream, "consumptions"),
    ],
    ids=lambda broken: broken[1],
)
def test_a_fault_anywhere_hides_no_bytes_that_follow(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: tuple[object, str]
) -> None:
    monkeypatch.setattr(*broken, fail)
    meter, data = asked(), chat("Hi", usage=CHAT)
    answered(meter, data, EVENTS, step=100)
    assert (meter.request_bytes, meter.response_bytes) == (len(json.dumps(ASKED)), len(data))
    assert isinstance(meter.read(), Metered)
    meter.estimate_request()
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("broken", ["add", "metered", "estimate_request"])
def test_a_fault_hides_no_message_of_a_websocket_that_follows(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    monkeypatch.setattr(Session, broken, fail)
    meter = Meter("GET", RESPONSES, None)
    meter.begin_socket()
    for _ in range(3):
        meter.feed_message(b"12345", from_client=True, is_text=True)
        meter.feed_message(b"123", from_client=False, is_text=True)
    assert (meter.estimate_request(), meter.read()) == (None, Metered())
    assert (meter.request_bytes, meter.response_bytes) == (15, 9)
    assert caplog.text.count("RuntimeError") == 1


def test_a_long_stream_takes_constant_memory() -> None:
    meter = asked()
    meter.begin_answer(200, EVENTS, "")
    data = sse(*[chunk(f" word{number}") for number in range(100)])
    tracemalloc.start()
    try:
        for _ in range(200):
            meter.feed_answer(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert meter.response_bytes == 200 * len(data) > 3_000_000
    assert peak < 2_000_000


def fail_the_test(*_: object) -> None:
    raise AssertionError


ENDPOINTS = st.sampled_from([CHAT_ENDPOINT, RESPONSES, EMBEDDINGS, SPEECH, TRANSCRIPTIONS, "/v1/realtime", "other"])
TYPES = st.sampled_from([JSON, EVENTS, "multipart/form-data; boundary=x", "audio/mpeg", "", ";", "\ud800"])
NOISE = st.lists(
    st.binary(max_size=30)
    | st.sampled_from(
        [
            b'data: {"usage":{',
            b'"prompt_tokens":5}}',
            b"\n\n",
            b'{"model":',
            b'"m",',
            b'"choices":[{',
            b"}]}",
            b"--x\r\n",
        ]
    ),
    max_size=12,
)


@given(
    st.sampled_from(["GET", "POST"]),
    ENDPOINTS,
    TYPES,
    TYPES,
    st.sampled_from(["", "gzip", "br", "zstd", "deflate", "x"]),
    st.sampled_from([0, 101, 200, 500]),
    NOISE,
)
def test_no_bytes_raise(
    method: str, endpoint: str, sent: str, got: str, coding: str, status: int, chunks: list[bytes]
) -> None:
    with patch.object(meter_module, "_log", error=fail_the_test):
        play(method, endpoint, sent, got, coding, status, chunks)


def play(method: str, endpoint: str, sent: str, got: str, coding: str, status: int, chunks: list[bytes]) -> None:
    meter = Meter(method, endpoint, "m")
    meter.begin_request(sent, coding)
    for noise in chunks:
        meter.feed_request(noise)
    meter.begin_answer(status, got, coding)
    for noise in chunks:
        meter.feed_answer(noise)
        meter.read()
    if status == 101:
        meter.begin_socket()
        for noise in chunks:
            meter.feed_message(noise, from_client=False, is_text=True)
            meter.feed_message(noise, from_client=True, is_text=True)
    meter.end_answer()
    assert isinstance(meter.read(), Metered)
    meter.estimate_request()
