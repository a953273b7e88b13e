import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.load.effort import passes
from support.upstreams.events import delta, response
from support.upstreams.usages import REALTIME, RESPONSE, TRANSCRIPTION, WHISPER

from addon.metering.session import Session
from addon.protocol.usage_objects import total, units_of
from store.ledger.usage import Consumption, Metered, Source

REALTIME_UNITS = units_of(REALTIME) or {}
RESPONSE_UNITS = units_of(RESPONSE) or {}
GPT_41 = "gpt-4.1-2025-04-14"


class Played:
    """A session into which messages are fed."""

    def __init__(self, endpoint: str = "/v1/realtime", query_model: str | None = "gpt-realtime") -> None:
        self.session = Session(endpoint, query_model)

    def server(self, *events: object) -> "Played":
        for event in events:
            self.session.add(json.dumps(event).encode(), from_client=False)
        return self

    def client(self, *events: object) -> "Played":
        for event in events:
            self.session.add(json.dumps(event).encode(), from_client=True)
        return self

    def metered(self) -> Metered:
        return self.session.metered()


def responses() -> Played:
    return Played("/v1/responses", None)


def session_event(kind: str = "session.created", **session: Any) -> dict[str, Any]:
    return {"type": kind, "session": {"type": "realtime", "model": "gpt-realtime-2025-08-28", **session}}


def created(name: str = "resp_1") -> dict[str, Any]:
    return {"type": "response.created", "response": {"id": name, "usage": None}}


def done(name: str = "resp_1", usage: object = REALTIME) -> dict[str, Any]:
    return {"type": "response.done", "response": {"id": name, "status": "completed", "usage": usage}}


def test_a_realtime_session_sums_its_responses() -> None:
    played = Played().server(session_event(), created("a"), done("a"), created("b"), done("b"))
    used = Consumption("gpt-realtime-2025-08-28", total(REALTIME_UNITS, REALTIME_UNITS))
    assert played.metered() == Metered(Source.OBSERVED, (used,), "gpt-realtime", used.model)


def test_images_of_a_response_have_a_model_of_their_own() -> None:
    ended = done(usage=RESPONSE)
    ended["response"] |= {
        "model": GPT_41,
        "tools": [{"type": "image_generation", "model": "gpt-image-1"}],
        "tool_usage": {"image_gen": {"input_tokens": 7, "output_tokens": 9}},
    }
    images = Consumption("gpt-image-1", {"input_tokens": 7, "output_tokens": 9})
    metered = responses().server(created(), ended).metered()
    assert (metered.consumptions, metered.model) == ((Consumption(GPT_41, RESPONSE_UNITS), images), GPT_41)


@pytest.mark.parametrize("within", [None, {}])
def test_a_usage_may_stand_beside_its_response(within: object) -> None:
    reasoning = {**REALTIME, "output_token_details": {"reasoning_tokens": 7}}
    played = Played().server(created(), {**done(usage=within), "usage": reasoning})
    units = {
        unit: count
        for unit, count in REALTIME_UNITS.items()
        if unit not in {"output_text_tokens", "output_audio_tokens"}
    }
    units["output_reasoning_tokens"] = 7
    assert played.metered().consumptions == (Consumption("gpt-realtime", units),)


def test_the_address_names_the_model_until_the_session_does() -> None:
    assert Played().server(created(), done()).metered().consumptions[0].model == "gpt-realtime"


def test_the_model_may_change() -> None:
    played = Played().server(session_event(), done("a"), session_event("session.updated", model="gpt-realtime-mini"))
    models = [used.model for used in played.server(done("b")).metered().consumptions]
    assert models == ["gpt-realtime-2025-08-28", "gpt-realtime-mini"]


@pytest.mark.parametrize("usage", [None, {}, {"total_tokens": 5}])
def test_a_response_without_usage_makes_the_sums_an_estimate(usage: object) -> None:
    played = Played().server(created("a"), done("a"), created("b"), done("b", usage))
    assert played.metered().source is Source.ESTIMATED
    assert played.metered().consumptions[0].units == REALTIME_UNITS


def test_a_response_under_way_makes_the_sums_an_estimate() -> None:
    played = Played().server(created("a"), done("a"), created("b"))
    assert played.metered().source is Source.ESTIMATED
    assert played.server(done("b")).metered().source is Source.OBSERVED


def test_a_session_without_usage_is_unknown() -> None:
    metered = Played().server(session_event(), created()).metered()
    assert metered == Metered(model_asked="gpt-realtime", model="gpt-realtime-2025-08-28")


@pytest.mark.parametrize(
    "session",
    [
        {"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}},
        {"input_audio_transcription": {"model": "gpt-4o-transcribe"}},
    ],
)
@pytest.mark.parametrize("usage", [TRANSCRIPTION, WHISPER])
def test_a_transcription_is_counted_for_its_model(session: dict[str, Any], usage: dict[str, Any]) -> None:
    heard = {"type": "conversation.item.input_audio_transcription.completed", "transcript": "Hi", "usage": usage}
    played = Played().server(session_event(**session), heard, done())
    assert played.metered().source is Source.OBSERVED
    assert played.metered().consumptions == (
        Consumption("gpt-4o-transcribe", units_of(usage) or {}),
        Consumption("gpt-realtime-2025-08-28", REALTIME_UNITS),
    )


def test_a_transcription_by_an_unknown_model_is_left_out() -> None:
    heard = {"type": "conversation.item.input_audio_transcription.completed", "usage": TRANSCRIPTION}
    played = Played().server(session_event(), heard)
    assert played.metered().source is Source.UNKNOWN
    assert played.server(done()).metered().source is Source.ESTIMATED


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed"])
def test_responses_over_a_websocket_name_their_model_and_tier(kind: str) -> None:
    played = responses().client({"type": "response.create", "model": "gpt-4.1", "input": "Hi"})
    played.server(response("created"), delta("Hi"), response(kind, usage=RESPONSE, service_tier="priority"))
    used = Consumption(GPT_41, RESPONSE_UNITS, (("service_tier", "priority"),))
    assert played.metered() == Metered(Source.OBSERVED, (used,), "gpt-4.1", used.model)
    assert played.session.estimate_request() is None


def test_a_response_that_was_cut_can_be_estimated() -> None:
    request = {"type": "response.create", "model": "gpt-4.1", "input": "Hi"}
    wanted = responses().client(request).server(response("created"), delta("Hello")).session.estimate_request()
    assert wanted is not None
    assert (wanted.endpoint, wanted.model, wanted.model_asked) == ("/v1/responses", GPT_41, "gpt-4.1")
    assert json.loads(wanted.request) == request
    assert json.loads(wanted.events) == delta("Hello")


def test_realtime_and_known_sums_are_not_estimated() -> None:
    assert Played().server(created(), delta("Hello")).session.estimate_request() is None
    played = responses().server(response("created"), response("completed", usage=RESPONSE), response("created", id="b"))
    assert played.server(delta("Hello")).session.estimate_request() is None
    assert played.metered().source is Source.ESTIMATED


def test_a_usage_in_another_event_is_ignored() -> None:
    played = Played().server({"type": "other", "usage": REALTIME}, {"type": "other", "response": {"usage": REALTIME}})
    assert played.client(done()).metered().source is Source.UNKNOWN


def test_the_number_of_models_is_bounded() -> None:
    played = Played()
    for number in range(100):
        played.server(response("completed", id="", model=f"m{number}", usage=RESPONSE), created(f"resp_{number}"))
    assert len(played.metered().consumptions) == 32
    assert played.metered().source is Source.ESTIMATED


TYPES = ["response.done", "response.created", "session.created", "response.create"]
VALUES = st.none() | st.integers() | st.just("x") | st.just([1]) | st.just({"usage": 1, "model": 2, "id": []})


@given(
    st.dictionaries(st.sampled_from(["session", "response", "usage", "model", "id"]), VALUES), st.sampled_from(TYPES)
)
def test_no_message_raises(event: dict[str, object], kind: str) -> None:
    for played in (Played(), responses()):
        played.server({**event, "type": kind}).client({**event, "type": kind})
        played.metered()
        played.session.estimate_request()


@given(st.sampled_from(TYPES), st.binary())
def test_no_bytes_raise(kind: str, noise: bytes) -> None:
    session = Session("/v1/responses", None)
    for from_client in (True, False):
        session.add(kind.encode() + noise, from_client=from_client)
    session.metered()


def test_a_requested_response_that_has_not_begun_makes_the_sums_an_estimate() -> None:
    played = responses().client({"type": "response.create"}).server(response("created"))
    played.server(response("completed", usage=RESPONSE))
    assert played.metered().source is Source.OBSERVED
    assert played.client({"type": "response.create"}).metered().source is Source.ESTIMATED
    played.server(response("created", id="b"), response("completed", id="b", usage=RESPONSE))
    assert played.metered().source is Source.OBSERVED


@pytest.mark.parametrize(
    ("asked", "refused", "source"),
    [
        ({}, {"event_id": None}, Source.OBSERVED),
        ({"event_id": "a"}, {"event_id": "a"}, Source.OBSERVED),
        ({"event_id": "a"}, {"event_id": "other"}, Source.ESTIMATED),
    ],
)
def test_a_refused_response_is_not_expected_to_begin(
    asked: dict[str, str], refused: dict[str, str], source: Source
) -> None:
    played = Played().server(done()).client({"type": "response.create", **asked})
    assert played.server({"type": "error", "error": {"code": "x", **refused}}).metered().source is source


def test_a_response_that_was_not_requested_stands_for_no_other() -> None:
    assert Played().server(created("a"), done("a"), created("b"), done("b")).metered().source is Source.OBSERVED


@pytest.mark.parametrize("kind", ["response.create", "conversation.item.create"])
def test_a_huge_message_of_a_client_is_read_fast(kind: str) -> None:
    session = Session("/v1/realtime", "gpt-realtime")
    content = b'{"type":"%s","note":"response.create","x":[' % kind.encode() + b"[]," * 3_000_000 + b"[]]}"
    assert passes(lambda: session.add(content, from_client=True)) < 5  # 0.4; over 100 where it is parsed
    session.add(json.dumps(done()).encode(), from_client=False)
    source = Source.ESTIMATED if kind == "response.create" else Source.OBSERVED
    assert session.metered().source is source


def test_the_usage_of_a_large_response_is_read() -> None:
    large = {"type": "response.done", "response": {"id": "a", "output": "x" * 2_000_000, "usage": REALTIME}}
    assert Played().server(created("a"), large).metered() == Metered(
        Source.OBSERVED, (Consumption("gpt-realtime", REALTIME_UNITS),), "gpt-realtime", "gpt-realtime"
    )


def test_a_large_event_that_cannot_be_parsed_makes_the_sums_an_estimate() -> None:
    session = Played().server(done()).session
    session.add(b'["usage",' + b"0," * 1_000_000 + b"0]", from_client=False)
    assert session.metered().source is Source.ESTIMATED


def test_the_memory_of_long_ids_is_bounded() -> None:
    played = Played()
    tracemalloc.start()
    try:
        for number in range(300):
            long = f"{number}{'x' * 10_000}"
            played.server(created(long)).client({"type": "response.create", "event_id": long})
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 200_000
