import asyncio
import json
import threading

import pytest

from addon import session_models
from addon.reading import events
from addon.reading.head import Head
from addon.reading_threads import AT_ONCE
from addon.session_models import EventReader, SessionModels
from store.request import Demand, Reading


def session(target: str) -> SessionModels:
    fields = ((b"upgrade", b"websocket"),)
    return SessionModels(Head("GET", target.encode(), fields, is_upgrade=True))


def event(kind: str, **fields: object) -> bytes:
    return json.dumps({"type": kind, **fields}).encode()


def read(reader: EventReader) -> Reading:
    assert reader.is_ready
    return asyncio.run(reader.read())


def keep(models: SessionModels, content: bytes) -> None:
    asyncio.run(models.keep_other(models.of_other(content, is_text=True)))


@pytest.fixture
def realtime() -> SessionModels:
    """A Realtime session whose opening names a model."""
    return session("/v1/realtime?model=gpt-realtime")


@pytest.fixture
def responses() -> SessionModels:
    """A Responses WebSocket."""
    return session("/v1/responses")


def test_a_realtime_response_has_the_model_of_the_opening(realtime: SessionModels) -> None:
    asked = read(realtime.of_ask(event("response.create"), is_text=True))
    present = read(realtime.present())
    assert asked._replace(demand=None) == present._replace(demand=None) == Reading(("gpt-realtime",))
    assert present.demand == Demand(output_tokens=None, refers=True, speaks=True)
    assert asked.demand is not None
    assert asked.demand.refers


def test_all_models_that_a_realtime_session_has_named_count(realtime: SessionModels) -> None:
    update = event("session.update", session={"model": "other", "audio": {"input": {"transcription": {"model": "w"}}}})
    named = read(realtime.of_other(update, is_text=True))
    assert (set(named.models), named.doubt, named.generates) == ({"other", "w"}, "", False)
    assert read(realtime.present()).models == ("gpt-realtime",)
    keep(realtime, update)
    assert set(read(realtime.present()).models) == {"gpt-realtime", "other", "w"}
    assert read(realtime.present()).generates


def test_a_doubt_about_an_update_stays(realtime: SessionModels) -> None:
    twice = b'{"type":"session.update","session":{"model":"a","model":"b"}}'
    assert read(realtime.of_other(twice, is_text=True)).doubt
    keep(realtime, twice)
    assert read(realtime.of_ask(event("response.create"), is_text=True)).doubt


def test_a_session_that_names_too_many_models_is_a_doubt(realtime: SessionModels) -> None:
    for number in range(session_models.MOST + 1):
        keep(realtime, event("session.update", session={"model": f"m{number}"}))
    assert "too many models" in read(realtime.present()).doubt


def test_each_ask_of_a_responses_websocket_names_its_model(responses: SessionModels) -> None:
    ask = event("response.create", model="a")
    assert read(responses.of_ask(ask, is_text=True))._replace(demand=None) == Reading(("a",))
    unnamed = read(responses.of_ask(event("response.create"), is_text=True))
    assert (unnamed.models, bool(unnamed.doubt)) == ((), True)


def test_what_continues_a_responses_websocket_has_the_model_of_the_last_ask(responses: SessionModels) -> None:
    assert not read(responses.present()).generates
    for model in "ab":
        responses.keep_ask(responses.of_ask(event("response.create", model=model), is_text=True))
    present = read(responses.present())
    assert (present.models, present.generates) == (("b",), True)
    assert present.demand is not None


@pytest.mark.parametrize(("padding", "thread"), [(0, "MainThread"), (AT_ONCE, "reading")])
def test_only_a_short_event_is_read_on_the_event_loop_and_each_once(
    realtime: SessionModels, padding: int, thread: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def of_event(*_: object, **__: object) -> Reading:
        threads.append(threading.current_thread().name.partition("_")[0])
        return Reading(("a",))

    monkeypatch.setattr(events, "of_event", of_event)
    update = realtime.of_other(event("session.update", instructions="a" * padding), is_text=True)
    assert read(update).models == ("a",)
    asyncio.run(realtime.keep_other(update))
    assert read(realtime.present()).models == ("gpt-realtime", "a")
    assert threads == [thread]
