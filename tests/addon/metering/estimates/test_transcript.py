import json
import tracemalloc

import pytest
from support.upstreams.events import chunk, delta, response

from addon.metering.estimates import transcript as transcript_module
from addon.metering.estimates.transcript import MAX_RAW, Transcript


def begun(endpoint: str) -> Transcript:
    transcript = Transcript.of(endpoint)
    assert transcript is not None
    return transcript


def test_a_short_response_is_kept_unparsed() -> None:
    transcript = begun("/v1/chat/completions")
    assert transcript.is_empty()
    events = [json.dumps(chunk(text)).encode() for text in "abc"]
    for event in events:
        transcript.add(event)
    assert list(transcript.events) == events
    assert not transcript.texts.texts
    assert not transcript.is_empty()


def test_the_text_of_a_long_response_is_kept() -> None:
    transcript = begun("/v1/chat/completions")
    tracemalloc.start()
    try:
        for number in range(12_000):
            transcript.add(json.dumps(chunk(f"{number},")).encode())
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1.5 * MAX_RAW
    for event in transcript.events:
        transcript.texts.add_event(json.loads(event))
    assert transcript.texts.texts["0"].decode() == "".join(f"{number}," for number in range(12_000))


def test_events_without_text_are_not_kept() -> None:
    transcript = begun("/v1/responses")
    for event in (response("created"), response("output_text.done", text="x"), response("output_item.done")):
        transcript.add(json.dumps(event).encode())
    assert transcript.is_empty()
    transcript.add(json.dumps(delta("Hi")).encode())
    assert not transcript.is_empty()


def test_a_single_event_that_is_too_large_is_parsed() -> None:
    transcript = begun("/v1/chat/completions")
    transcript.add(json.dumps(chunk("x" * 2 * transcript_module.MAX_RAW)).encode())
    assert not transcript.events
    assert len(transcript.texts.texts["0"]) == 2 * MAX_RAW


def test_the_rest_of_a_very_long_response_is_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcript_module, "MAX_RAW", 10_000)
    monkeypatch.setattr(transcript_module, "MAX_PARSED", 100_000)
    transcript = begun("/v1/chat/completions")
    for number in range(10_000, 12_000):
        transcript.add(json.dumps(chunk(f"{number},")).encode())
    kept = sum(map(len, transcript.texts.texts.values())) + 6 * len(transcript.events)
    assert 1500 < kept < 6000
    assert kept + transcript.beyond == 2000 * 6


def test_an_event_that_is_slow_to_parse_is_not_parsed() -> None:
    transcript = begun("/v1/responses")
    transcript.add(b'{"x.delta":[' + b"[]," * 1_500_000 + b"[]]}")
    assert transcript.is_empty()
    assert transcript.beyond == 0
