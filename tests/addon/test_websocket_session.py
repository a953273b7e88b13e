import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from mitmproxy.websocket import WebSocketMessage
from support.gateway.processes import DEADLINE
from support.stores.limits import standing
from support.stores.stores import foreign_lock, make_settings, make_token, opened, opening, rows, set_columns
from support.upstreams.usages import REALTIME, RESPONSE, TRANSCRIPTION
from wsproto.frame_protocol import CloseReason, Opcode

from addon import websocket_session
from addon.growth import STEP, Growth, growth_of
from addon.metering.meter import Meter
from addon.protocol import websocket_events
from addon.protocol.usage_objects import units_of
from addon.reading.head import Head
from addon.session_models import EventReader, SessionModels
from addon.websocket_session import Account, Closing, Turn, WebSocketSession
from store import clock
from store.admission.admission import Admission
from store.admission.decision import Extended
from store.errors import ProjectInactive, RateLimited, TokenInactive
from store.ledger.usage import Source
from store.limits.window import Standing
from store.management.projects import Projects
from store.management.tokens import TokenRecord, Tokens
from store.request import Opened, Opening
from store.store import Store

if TYPE_CHECKING:
    from store.errors import GatewayError

REALTIME_PATH, RESPONSES_PATH = "/v1/realtime", "/v1/responses"
INPUT = (units_of(REALTIME) or {})["input_tokens"]


@pytest.fixture
def store(tmp_path: Any) -> Iterator[Store]:
    with opened(make_settings(tmp_path, store_timeout=0.3)) as store:
        yield store


def head_of(path: str) -> Head:
    target = f"{path}?model=gpt-realtime" if path == REALTIME_PATH else path
    return Head("GET", target.encode(), (), is_upgrade=True)


class Bench:
    """A session on a real store: its messages, replies and settlements."""

    def __init__(self, store: Store, admission: Admission, token: TokenRecord, first: Opening, opened: Opened) -> None:
        self.store = store
        self.admission = admission
        self.token = token
        self.meter = Meter("GET", first.endpoint, "gpt-realtime")
        self.meter.begin_socket()
        self.ended: list[Turn] = []
        self.refused: list[GatewayError] = []
        self.woken = 0
        self.request_id = first.request_id
        self.opened: Opened | None = opened
        self.session = WebSocketSession(
            Account(token.id, first, SessionModels(head_of(first.path)), self._extend, self._wake),
            self.meter,
            admission,
            lambda turn, _: self.ended.append(turn),
            lambda _, error: self.refused.append(error),
        )

    def _wake(self) -> None:
        self.woken += 1

    async def _extend(self, asked: Opening, reader: EventReader) -> tuple[bool, Growth | None]:
        before = self.opened
        assert before is not None
        extended = await self.admission.extend(before, asked, reader)
        self.opened = extended.opened
        more = extended.opened.reserved.minus(before.reserved)
        return not extended.is_past, growth_of(self.admission, self, extended.bounds, more)

    async def client(self, kind: str, **fields: object) -> bool:
        """Handle an event of the client's; return True if it is forwarded."""
        return await self.give(json.dumps({"type": kind, **fields}).encode(), from_client=True)

    async def upstream(self, kind: str, **fields: object) -> bool:
        """Handle an event of the upstream's; return True if it is forwarded."""
        return await self.give(json.dumps({"type": kind, **fields}).encode(), from_client=False)

    async def give(self, content: bytes, *, from_client: bool, kind: Opcode = Opcode.TEXT) -> bool:
        message = WebSocketMessage(kind, from_client, content)
        await self.session.handle(message)
        return not message.dropped

    async def ask(self, **fields: object) -> bool:
        return await self.client("response.create", **fields)

    async def begin(self, name: str, **fields: object) -> bool:
        return await self.upstream("response.created", response={"id": name, "usage": None}, **fields)

    async def finish(self, name: str, usage: object = REALTIME, **fields: object) -> bool:
        return await self.upstream("response.done", response={"id": name, "usage": usage}, **fields)

    async def respond(self, name: str) -> bool:
        """Have a response asked for, begun and ended."""
        return all([await self.ask(), await self.begin(name), await self.finish(name)])

    def replies(self) -> list[tuple[dict[str, Any], str]]:
        return [
            (json.loads(reply.text), "client" if reply.to_client else "upstream")
            for reply in self.session.pop_replies()
        ]

    def errors(self) -> list[tuple[str, str | None]]:
        """Return the codes of the errors that clients get, with the ids of their events."""
        return [(event["error"]["code"], event["error"]["event_id"]) for event, _ in self.replies() if "error" in event]

    @property
    def count(self) -> int:
        return Tokens(self.store).get(self.token.id).request_count

    @property
    def inputs(self) -> list[int | None]:
        """The reported input tokens of the ended responses that have rows of their own."""
        return [turn.meter.read().units.get("input_tokens") for turn in self.ended]


def run(store: Store, test: Callable[[Bench], Awaitable[None]], path: str = REALTIME_PATH, **token_fields: Any) -> None:
    async def main() -> None:
        admission = Admission(store)
        try:
            token = make_token(store, **token_fields)
            first = opening(path)._replace(client="192.0.2.1")
            admitted = await admission.admit(token.value, first, SessionModels(head_of(path)).present())
            await test(Bench(store, admission, token, first, admitted.opened))
        finally:
            admission.close()

    asyncio.run(main())


def revoke(bench: Bench) -> None:
    Tokens(bench.store).revoke(bench.token.id)


def expire(bench: Bench) -> None:
    set_columns(bench.store, "token", bench.token.id, expires_at=1)


def switch_off(bench: Bench) -> None:
    Projects(bench.store).update(bench.token.project_id, {"is_active": False})


def delete(bench: Bench) -> None:
    Projects(bench.store).delete(bench.token.project_id)


GONE = [
    (revoke, "token_inactive"),
    (expire, "token_expired"),
    (switch_off, "project_inactive"),
    (delete, "invalid_token"),
]


def test_the_opening_pays_for_the_first_response_and_each_further_one_is_counted(store: Store) -> None:
    async def test(bench: Bench) -> None:
        for name in ("a", "b", "c"):
            assert await bench.respond(name)
        assert bench.count == 3
        first = bench.request_id
        assert sorted(row["session_id"] or "" for row in rows(store, "request")) == ["", first, first]
        assert bench.inputs == [INPUT, INPUT]
        assert bench.meter.read().units["input_tokens"] == INPUT
        assert (bench.replies(), bench.refused) == ([], [])

    run(store, test)


def test_a_response_beyond_the_limit_is_refused_and_the_session_goes_on(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert not await bench.ask(event_id="mine")
        (event, side), *others = bench.replies()
        assert (side, event["type"], event["status"], others) == ("client", "error", 429, [])
        assert (event["error"]["code"], event["error"]["event_id"]) == ("insufficient_quota", "mine")
        assert event["event_id"].startswith("event_")
        assert bench.session.closing is None
        assert await bench.client("input_audio_buffer.append", audio="AAAA")
        assert bench.count == 1
        assert len(bench.refused) == 1
        refusals.append(event["event_id"].removeprefix("event_"))

    refusals: list[str] = []
    run(store, test, max_requests=1)
    (row,) = rows(store, "refusal")
    assert [row["id"]] == refusals
    assert row["session_id"] == rows(store, "request")[0]["id"]


def test_a_response_that_a_window_refuses_is_an_error_event(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise RateLimited("Too many requests in a minute.", Standing(1, 0, clock.MINUTE))

    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        monkeypatch.setattr(Admission, "admit_again", refuse)
        assert not await bench.ask(event_id="mine")
        ((event, side),) = bench.replies()
        assert (side, event["type"], event["status"]) == ("client", "error", 429)
        assert event["error"] == {
            "message": "Too many requests in a minute.",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
            "event_id": "mine",
        }
        assert bench.session.closing is None

    run(store, test)


@pytest.mark.parametrize(("spoil", "code"), GONE)
def test_a_session_is_closed_once_its_token_is_no_longer_valid(
    store: Store, spoil: Callable[[Bench], None], code: str
) -> None:
    async def test(bench: Bench) -> None:
        spoil(bench)
        assert await bench.client("input_audio_buffer.append", audio="AAAA")
        assert bench.session.closing is None
        assert not await bench.ask(event_id="mine")  # also the first one, for which the opening has paid
        assert bench.errors() == [(code, "mine")]
        assert bench.session.closing == Closing(CloseReason.POLICY_VIOLATION, str(bench.refused[0]))

    run(store, test)


def test_a_response_that_the_upstream_begins_by_itself_is_admitted(store: Store) -> None:
    async def test(bench: Bench) -> None:
        for name in ("a", "b"):
            assert await bench.begin(name)
            assert await bench.finish(name)
        assert (bench.count, bench.inputs) == (2, [INPUT])

    run(store, test)


def test_a_response_that_the_upstream_begins_beyond_the_limit_is_cancelled_and_dropped(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert not await bench.begin("b")
        (error, to_client), (cancel, to_upstream) = bench.replies()
        assert (to_client, error["error"]["code"], error["error"]["event_id"]) == (
            "client",
            "insufficient_quota",
            None,
        )
        assert (to_upstream, cancel["type"], cancel["response_id"]) == ("upstream", "response.cancel", "b")
        assert not await bench.upstream("response.output_item.added", response_id="b", item={"id": "i"})
        assert not await bench.upstream("response.output_audio.delta", response_id="b", item_id="i", delta="AAAA")
        assert not await bench.upstream("conversation.item.added", item={"id": "i"}, previous_item_id="h")
        assert await bench.upstream("conversation.item.added", item={"id": "j"}, previous_item_id="i")
        assert await bench.upstream("rate_limits.updated", rate_limits=[])
        assert not await bench.finish("b")
        assert await bench.upstream("conversation.item.added", item={"id": "k"}, previous_item_id="i")
        assert not await bench.upstream("error", error={"event_id": cancel["event_id"]})
        assert await bench.upstream("error", error={"event_id": "another"})
        assert (bench.count, bench.ended, bench.session.closing) == (1, [], None)
        # The usage until it was cancelled is in the opening's row.
        assert bench.meter.read().units["input_tokens"] == 2 * INPUT

    run(store, test, max_requests=1)


@pytest.mark.parametrize(("spoil", "code"), GONE)
def test_a_response_that_the_upstream_begins_for_a_token_that_is_no_longer_valid_closes_the_session(
    store: Store, spoil: Callable[[Bench], None], code: str
) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        spoil(bench)
        assert not await bench.begin("b")
        assert bench.errors() == [(code, None)]
        assert bench.session.closing is not None
        assert bench.session.closing.code == CloseReason.POLICY_VIOLATION

    run(store, test)


def test_a_response_without_an_id_is_admitted_each_time_and_closes_the_session_if_refused(store: Store) -> None:
    async def test(bench: Bench) -> None:
        for _ in range(3):
            assert await bench.begin("")
        assert (bench.count, len(bench.ended)) == (3, 1)
        assert not await bench.begin("")
        assert bench.session.closing is not None

    run(store, test, max_requests=3)


def test_an_ask_whose_response_begins_late_is_checked_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert await bench.ask()
        monkeypatch.setattr(websocket_session, "FRESH", -1.0)
        assert await bench.ask()
        assert await bench.begin("b")
        revoke(bench)
        assert not await bench.begin("c")
        assert bench.errors() == [("token_inactive", None)]
        assert bench.session.closing is not None
        assert len(bench.ended) == 1  # its row, which is paid for
        assert bench.count == 3

    run(store, test)


def test_simultaneous_responses_have_their_own_usages(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        for name in ("b", "c"):
            assert await bench.ask()
            assert await bench.begin(name)
        assert await bench.upstream("response.output_text.delta", response_id="c", delta="c" * 1000)
        assert await bench.upstream("response.output_text.delta", response_id="b", delta="b")
        before = bench.meter.response_bytes
        assert await bench.upstream("response.output_text.delta", delta="of an unnamed response")
        assert bench.meter.response_bytes > before
        assert await bench.finish("c", {"input_tokens": 7, "output_tokens": 1})
        assert await bench.finish("b", {"input_tokens": 5, "output_tokens": 1})
        assert bench.inputs == [7, 5]
        assert bench.ended[0].meter.response_bytes > 1000 > bench.ended[1].meter.response_bytes

    run(store, test)


def test_lanes_of_a_responses_websocket_are_kept_apart(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.ask(stream_id="left")
        assert await bench.ask(stream_id="right")
        assert await bench.begin("r", stream_id="right")
        assert await bench.begin("l", stream_id="left")
        assert await bench.upstream("response.output_text.delta", stream_id="right", delta="r" * 1000)
        assert await bench.finish("r", RESPONSE, stream_id="right")
        assert bench.count == 2
        assert [turn.lane for turn in bench.ended] == ["right"]
        assert bench.ended[0].meter.response_bytes > 1000

    run(store, test, RESPONSES_PATH)


def test_a_successor_that_the_upstream_begins_ends_the_response_before_it(store: Store) -> None:
    async def test(bench: Bench) -> None:
        for name in ("a", "b", "c"):
            assert await bench.begin(name)
        assert (bench.count, [turn.response_id for turn in bench.ended]) == (3, ["b"])

    run(store, test, RESPONSES_PATH)


def test_a_responses_websocket_is_closed_where_a_begun_response_is_refused(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.begin("a")
        assert not await bench.begin("b")
        ((event, side),) = bench.replies()
        assert (side, event["error"]["code"]) == ("client", "insufficient_quota")
        assert bench.session.closing is not None

    run(store, test, RESPONSES_PATH, max_requests=1)


def test_a_response_without_output_is_not_counted(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.ask(generate=False)
        assert await bench.begin("warm")
        assert await bench.upstream("response.completed", response={"id": "warm", "usage": {"input_tokens": 9}})
        assert await bench.respond("a")
        assert await bench.respond("b")
        assert (bench.count, bench.inputs) == (2, [INPUT])
        assert bench.meter.read().units["input_tokens"] == 9 + INPUT

    run(store, test, RESPONSES_PATH)


def test_a_response_that_has_output_in_spite_of_its_ask_is_counted_or_closes_the_session(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        for name in ("b", "c"):
            assert await bench.ask(generate=False)
            assert await bench.begin(name)
            is_forwarded = await bench.upstream("response.output_item.added", item={"id": "i"})
            assert is_forwarded == (name == "b")
            assert await bench.finish(name)
        assert (bench.count, bench.inputs) == (2, [INPUT])
        assert bench.errors() == [("insufficient_quota", None)]
        assert bench.session.closing is not None

    run(store, test, RESPONSES_PATH, max_requests=2)


def test_an_error_ends_the_ask_that_caused_it(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert await bench.ask(event_id="b")
        assert await bench.ask(event_id="c")
        assert await bench.upstream("error", error={"code": "x"})  # it does not name its event
        assert bench.ended == []
        assert await bench.upstream("error", status=400, error={"event_id": "b"})
        assert [(turn.event_id, turn.status) for turn in bench.ended] == [("b", 400)]
        assert await bench.begin("c")
        assert await bench.finish("c")
        assert bench.count == 3

    run(store, test)


def test_an_error_on_a_responses_websocket_is_about_the_oldest_ask_of_its_lane(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert await bench.ask(stream_id="left")
        assert await bench.ask(stream_id="right")
        assert await bench.upstream("error", status=404, stream_id="right", error={"code": "no"})
        assert [(turn.lane, turn.status) for turn in bench.ended] == [("right", 404)]

    run(store, test, RESPONSES_PATH)


def test_a_store_that_fails_refuses_and_the_first_response_stays_paid(store: Store) -> None:
    async def test(bench: Bench) -> None:
        with foreign_lock(store):
            assert not await bench.ask(event_id="mine")
            assert not await bench.begin("a")
        assert bench.errors() == [("store_unavailable", "mine"), ("store_unavailable", None)]
        assert bench.session.closing is None
        assert await bench.respond("b")
        assert bench.count == 1

    run(store, test)


def test_responses_under_way_are_settled_at_the_end(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert await bench.ask()
        assert await bench.begin("b")
        assert await bench.ask()
        bench.session.end()
        assert sorted(turn.response_id for turn in bench.ended) == ["", "b"]

    run(store, test)


def test_a_response_that_is_admitted_after_the_end_is_settled_and_not_forwarded(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        asking = asyncio.create_task(bench.ask())
        await asyncio.sleep(0)
        bench.session.end()
        assert not await asking
        assert bench.count == 2
        async with asyncio.timeout(DEADLINE):
            while not all(row["settled_at"] for row in rows(store, "request") if row["session_id"]):
                await asyncio.sleep(0.01)

    run(store, test)


def test_events_of_no_response_are_metered_in_the_openings_row(store: Store) -> None:
    async def test(bench: Bench) -> None:
        model = {"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}
        assert await bench.upstream("session.created", session=model)
        assert await bench.respond("a")
        assert await bench.ask()
        assert await bench.begin("b")
        heard = "conversation.item.input_audio_transcription.completed"
        assert await bench.upstream(heard, transcript="Hi", usage=TRANSCRIPTION)
        assert await bench.finish("b")
        models = [used.model for used in bench.meter.read().consumptions]
        assert sorted(model or "" for model in models) == ["gpt-4o-transcribe", "gpt-realtime"]
        assert bench.inputs == [INPUT]

    run(store, test)


def test_too_many_asks_are_settled_as_they_are_and_counted_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        monkeypatch.setattr(websocket_session, "MAX_TURNS", 2)
        for _ in range(5):
            assert await bench.ask()
        assert len(bench.ended) == 2
        for name in ("a", "b", "c", "d", "e"):
            assert await bench.begin(name)
            assert await bench.finish(name)
        assert bench.count == 5
        assert bench.inputs[2:] == [INPUT, INPUT]
        assert bench.meter.read().units["input_tokens"] == 3 * INPUT

    run(store, test, max_requests=5)


def test_asks_beyond_the_maximum_are_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        monkeypatch.setattr(websocket_session, "MAX_TURNS", 1)
        monkeypatch.setattr(websocket_session, "MAX_ASKED", 2)
        for _ in range(4):
            assert await bench.ask()
        for name in ("a", "b", "c"):
            assert await bench.begin(name)
        assert bench.count == 5  # the third had no ask left

    run(store, test)


def test_a_refusal_of_realtime_that_names_no_event_ends_the_newest_ask(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        for _ in range(2):
            assert await bench.ask()
        assert await bench.begin("b")
        error = {"code": "conversation_already_has_active_response", "event_id": None}
        assert await bench.upstream("error", error=error)
        assert len(bench.ended) == 1
        assert await bench.finish("b", {"input_tokens": 5, "output_tokens": 1})
        assert await bench.ask()
        assert await bench.begin("c")
        assert await bench.finish("c", {"input_tokens": 7, "output_tokens": 1})
        assert (bench.count, bench.inputs[1:]) == (4, [5, 7])

    run(store, test)


@pytest.mark.parametrize(
    "error",
    [
        {"code": "invalid_api_key"},
        {"code": "x", "type": "authentication_error"},
        {"code": "other", "type": "invalid_request_error"},
    ],
)
def test_a_rejection_of_the_key_over_a_websocket_is_hidden(store: Store, error: dict[str, str]) -> None:
    async def test(bench: Bench) -> None:
        reported = {**error, "message": "Incorrect API key provided: sk-upstr***7890", "event_id": "mine"}
        status = 401 if error["code"] == "other" else None
        content = json.dumps({"type": "error", "status": status, "error": reported}).encode()
        message = WebSocketMessage(Opcode.TEXT, from_client=False, content=content)
        await bench.session.handle(message)
        assert not message.dropped
        shown = json.loads(message.content)
        assert (shown["error"]["code"], shown["error"]["event_id"]) == ("upstream_key_rejected", "mine")
        assert b"sk-upstr" not in message.content
        assert [refusal.code for refusal in bench.refused] == ["upstream_key_rejected"]

    run(store, test)


def test_a_response_that_is_checked_late_as_its_session_ends_is_settled(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert await bench.ask()
        monkeypatch.setattr(websocket_session, "FRESH", -1.0)
        beginning = asyncio.create_task(bench.begin("b"))
        await asyncio.sleep(0)
        bench.session.end()
        assert not await beginning
        assert len(bench.ended) == 1

    run(store, test)


def test_a_paid_ask_is_checked_again_before_it_pays_for_another(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert await bench.ask(generate=False)
        assert await bench.ask()
        assert await bench.begin("b")
        monkeypatch.setattr(websocket_session, "FRESH", -1.0)
        revoke(bench)
        assert not await bench.upstream("response.output_item.added", item={"id": "i"})
        assert bench.session.closing is not None
        assert len(bench.ended) == 1

    run(store, test, RESPONSES_PATH)


def test_an_ask_in_a_binary_message_is_admitted_too(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        asked = b'{"type": "response.create"}'
        assert not await bench.give(asked, from_client=True, kind=Opcode.BINARY)

    run(store, test, max_requests=1)


def test_a_fault_closes_the_session(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        monkeypatch.delattr(websocket_events, "client_event")
        assert not await bench.ask()
        assert bench.session.closing is not None
        assert bench.session.closing.code == CloseReason.INTERNAL_ERROR

    run(store, test)


def test_a_response_without_a_lane_is_in_the_default_lane(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert await bench.ask(stream_id="left")
        assert await bench.ask()
        assert await bench.begin("d")
        assert await bench.begin("l", stream_id="left")
        assert await bench.upstream("response.output_item.added", item={"id": "i"})
        assert await bench.finish("l", RESPONSE, stream_id="left")
        assert await bench.finish("d", RESPONSE)
        assert [(turn.response_id, turn.lane) for turn in bench.ended] == [("l", "left"), ("d", "")]
        assert (bench.count, bench.session.closing) == (3, None)

    run(store, test, RESPONSES_PATH, max_requests=3)


def test_an_upstream_without_lanes_answers_the_asks_of_all(store: Store) -> None:
    async def test(bench: Bench) -> None:
        for name in ("a", "b"):
            assert await bench.ask(stream_id=name)
        for name in ("a", "b"):
            assert await bench.begin(name)
            assert await bench.finish(name, RESPONSE)
        assert (bench.count, len(bench.ended)) == (2, 1)

    run(store, test, RESPONSES_PATH)


def test_output_of_a_response_that_never_began_is_admitted(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert await bench.upstream("response.output_item.added", response_id="b", item={"id": "i"})
        assert await bench.upstream("response.output_item.added", response_id="b", item={"id": "j"})
        assert not await bench.upstream("response.output_item.added", response_id="c", item={"id": "k"})
        assert not await bench.upstream("response.output_audio.delta", response_id="c", item_id="k")
        assert bench.count == 2

    run(store, test, max_requests=2)


def test_output_in_a_lane_without_a_response_is_admitted_or_closes_the_session(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert not await bench.upstream("response.output_item.added", item={"id": "i"})
        assert bench.session.closing is not None

    run(store, test, RESPONSES_PATH, max_requests=1)


@pytest.mark.parametrize("kind", ["response.steer", "response.inject"])
def test_an_event_that_makes_the_upstream_go_on_is_checked_and_not_counted(store: Store, kind: str) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert await bench.client(kind, response_id="a")
        assert bench.count == 1
        revoke(bench)
        assert not await bench.client(kind, response_id="a")
        assert bench.session.closing is not None

    run(store, test, RESPONSES_PATH, max_requests=1)


def test_an_ask_for_no_output_is_checked(store: Store) -> None:
    async def test(bench: Bench) -> None:
        revoke(bench)
        assert not await bench.ask(generate=False)
        assert bench.errors() == [("token_inactive", None)]
        assert bench.session.closing is not None

    run(store, test, RESPONSES_PATH)


def test_an_ask_for_no_output_that_fails_does_not_end_another_response(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.ask()
        assert await bench.begin("a")
        assert await bench.ask(generate=False)
        assert await bench.upstream("error", status=400, error={"code": "no"})
        assert await bench.finish("a", RESPONSE)
        assert await bench.ask()
        assert await bench.begin("b")
        assert await bench.upstream("response.output_item.added", item={"id": "i"})
        assert await bench.finish("b", RESPONSE)
        assert (bench.count, bench.session.closing) == (2, None)
        assert bench.ended[-1].meter.read().source is Source.OBSERVED

    run(store, test, RESPONSES_PATH, max_requests=2)


def test_an_error_about_something_else_does_not_end_a_response(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert await bench.ask()
        assert await bench.upstream("error", status=400, error={"code": "unknown_event"})
        assert [turn.status for turn in bench.ended] == [400]
        assert await bench.begin("b")
        assert await bench.finish("b", RESPONSE)
        assert (bench.count, len(bench.ended), bench.session.closing) == (2, 1, None)

    run(store, test, RESPONSES_PATH, max_requests=2)


def test_an_error_while_a_response_is_under_way_ends_no_other(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        for _ in range(2):
            assert await bench.ask()
        assert await bench.begin("b")
        assert await bench.upstream("error", status=500, error={"code": "server_error"})
        assert bench.ended == []

    run(store, test, RESPONSES_PATH)


def test_a_refusal_names_its_lane(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert not await bench.ask(stream_id="left")
        assert not await bench.begin("b", stream_id="right")
        assert [event["stream_id"] for event, _ in bench.replies()] == ["left", "right"]

    run(store, test, RESPONSES_PATH, max_requests=1)


def test_realtime_knows_no_response_without_output(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert not await bench.ask(generate=False)

    run(store, test, max_requests=1)


def test_an_ask_that_failed_leaves_its_place_to_the_next(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert await bench.ask(model="wrong")
        assert await bench.upstream("error", status=404, error={"code": "model_not_found"})
        assert await bench.ask()
        assert await bench.begin("b")
        assert await bench.finish("b", RESPONSE)
        assert [(turn.response_id, turn.status) for turn in bench.ended] == [("", 404), ("b", None)]
        assert bench.count == 3

    run(store, test, RESPONSES_PATH)


def test_a_store_that_fails_stops_no_response_that_is_paid(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert await bench.ask()
        monkeypatch.setattr(websocket_session, "FRESH", -1.0)
        with foreign_lock(store):
            assert await bench.begin("b")
        assert (bench.errors(), bench.session.closing) == ([], None)

    run(store, test, RESPONSES_PATH)


def test_a_begun_response_that_the_store_cannot_admit_closes_a_session_for_now(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        with foreign_lock(store):
            assert not await bench.begin("b")
        assert bench.session.closing is not None
        assert bench.session.closing.code == CloseReason.TRY_AGAIN_LATER

    run(store, test, RESPONSES_PATH)


def test_a_late_refusal_names_the_clients_event(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        long = "e" * 200
        assert await bench.ask(event_id=long)
        monkeypatch.setattr(websocket_session, "FRESH", -1.0)
        revoke(bench)
        assert not await bench.begin("a")
        assert bench.errors() == [("token_inactive", long)]

    run(store, test)


def test_ids_with_a_long_common_start_are_distinguished(store: Store) -> None:
    async def test(bench: Bench) -> None:
        prefix = "resp_" + "b" * 100
        assert await bench.begin(f"{prefix}1")
        assert not await bench.begin(f"{prefix}2")
        *_, (cancel, _) = bench.replies()
        assert cancel["response_id"] == f"{prefix}2"
        assert await bench.finish(f"{prefix}1")

    run(store, test, max_requests=1)


def test_a_response_with_two_first_events_has_begun_once(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.begin("a")
        assert await bench.begin("a")
        assert bench.count == 1

    run(store, test, max_requests=1)


def test_an_event_that_quotes_another_belongs_to_no_response(store: Store) -> None:
    async def test(bench: Bench) -> None:
        model = {"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}
        assert await bench.upstream("session.created", session=model)
        assert await bench.respond("a")
        assert await bench.ask()
        assert await bench.begin("b")
        heard = "conversation.item.input_audio_transcription.completed"
        assert await bench.upstream(heard, transcript='"type": "response.done"', usage=TRANSCRIPTION)
        assert await bench.finish("b")
        assert bench.ended[0].meter.read().source is Source.OBSERVED
        assert len(bench.meter.read().consumptions) == 2

    run(store, test)


def test_the_openings_row_stays_observed_where_a_response_turns_out_to_have_output(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert await bench.ask(generate=False)
        assert await bench.begin("b")
        assert await bench.upstream("response.output_item.added", item={"id": "i"})
        assert await bench.finish("b")
        assert bench.meter.read().source is Source.OBSERVED

    run(store, test, RESPONSES_PATH)


def test_a_response_is_of_its_own_model_or_of_the_sessions(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.upstream("session.created", session={"model": "gpt-realtime-2"})
        assert await bench.ask()
        assert await bench.upstream("response.created", response={"id": "a", "model": "of-the-first"})
        assert await bench.finish("a")
        for name in ("b", "c"):
            assert await bench.ask()
            assert await bench.begin(name)
        bench.session.end()
        assert [turn.meter.read().model for turn in bench.ended] == ["gpt-realtime-2"] * 2

    run(store, test)


def test_dropped_responses_are_forgotten_at_their_end_and_beyond_the_maximum(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(bench: Bench) -> None:
        monkeypatch.setattr(websocket_session, "MAX_DROPPED", 2)
        assert await bench.begin("a")
        for name in ("b", "c", "d"):
            assert not await bench.begin(name)
        assert not await bench.finish("d")
        assert await bench.upstream("response.output_audio.delta", response_id="d", delta="AAAA")
        assert await bench.upstream("response.output_audio.delta", response_id="b", delta="AAAA")
        assert not await bench.upstream("response.output_audio.delta", response_id="c", delta="AAAA")

    run(store, test, max_requests=1)


def test_the_first_reason_to_close_is_kept(store: Store) -> None:
    async def test(bench: Bench) -> None:
        revoke(bench)
        assert not await bench.ask()
        first = bench.session.closing
        switch_off(bench)
        Tokens(store).update(bench.token.id, {"is_active": True})
        assert not await bench.ask()
        assert bench.session.closing is first

    run(store, test)


def test_a_session_that_has_ended_admits_nothing(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert await bench.ask()
        bench.session.end()
        assert not await bench.ask()
        bench.session.end()
        assert len(bench.ended) == 1

    run(store, test)


def test_a_settlement_that_fails_leaves_no_other_open(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        for _ in range(2):
            assert await bench.ask()
        ended: list[Turn] = []

        def fail_once(turn: Turn, _: Opened) -> None:
            ended.append(turn)
            if len(ended) == 1:
                raise OSError("no space left")

        monkeypatch.setattr(bench.session, "_on_turn_end", fail_once)
        bench.session.end()
        assert len(ended) == 2

    run(store, test)


# Policies.

MODEL_REFUSED = [("model_not_allowed", "mine")]


def allow(bench: Bench, **policies: Any) -> None:
    Tokens(bench.store).update(bench.token.id, policies)  # type: ignore[arg-type]


def test_each_response_is_judged_by_the_models_of_its_session(store: Store) -> None:
    async def talk(bench: Bench) -> None:
        assert await bench.respond("1")
        allow(bench, allowed_models=["other"])
        assert not await bench.ask(event_id="mine")
        assert bench.errors() == MODEL_REFUSED
        assert bench.session.closing is None
        allow(bench, allowed_models=["other", "gpt-realtime"])
        assert await bench.respond("2")
        assert bench.count == 2

    run(store, talk, allowed_models=["gpt-realtime"])


def test_an_update_that_names_another_model_is_not_forwarded(store: Store) -> None:
    async def talk(bench: Bench) -> None:
        assert await bench.client("session.update", session={"instructions": "Be brief."})
        assert await bench.client("session.update", session={"model": "gpt-realtime"})
        transcribed = {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}
        assert not await bench.client("session.update", session=transcribed, event_id="mine")
        assert not await bench.client("session.update", session={"model": "other"}, event_id="mine")
        twice = b'{"type":"session.update","session":{"model":"gpt-realtime","model":"other"}}'
        assert not await bench.give(twice, from_client=True)
        assert not await bench.give(twice.replace(b'"model":"g', b'"x":"g'), from_client=True, kind=Opcode.BINARY)
        assert [code for code, _ in bench.errors()] == ["model_not_allowed"] * 4
        assert await bench.respond("1")

    run(store, talk, allowed_models=["gpt-realtime"])


def test_a_response_that_the_upstream_begins_has_the_models_that_the_session_has_named(store: Store) -> None:
    async def talk(bench: Bench) -> None:
        assert await bench.client("session.update", session={"model": "other"})
        assert await bench.respond("1")
        allow(bench, allowed_models=["gpt-realtime"])
        assert not await bench.begin("2")
        assert [code for code, _ in bench.errors()] == ["model_not_allowed"]

    run(store, talk)


def test_each_ask_over_a_responses_websocket_names_an_allowed_model(store: Store) -> None:
    async def talk(bench: Bench) -> None:
        assert await bench.ask(model="a", input="b")
        assert not await bench.ask(event_id="mine")
        assert not await bench.ask(model="b", event_id="mine")
        assert not await bench.ask(model="b", generate=False, event_id="mine")
        assert bench.errors() == MODEL_REFUSED * 3
        assert await bench.client("response.steer", input="c")
        allow(bench, allowed_models=["b"])
        assert not await bench.client("response.steer", input="c")
        assert bench.count == 1

    run(store, talk, RESPONSES_PATH, allowed_models=["a"])


@pytest.mark.parametrize("policies", [{"allowed_endpoints": ["* /v1/chat*"]}, {"allowed_ips": []}])
def test_a_session_whose_endpoint_or_address_is_not_allowed_any_more_is_closed(
    store: Store, policies: dict[str, Any]
) -> None:
    async def talk(bench: Bench) -> None:
        assert await bench.respond("1")
        allow(bench, **policies)
        assert not await bench.ask()
        assert bench.session.closing is not None
        assert bench.session.closing.code == CloseReason.POLICY_VIOLATION

    run(store, talk)


def test_each_response_that_outgrows_its_reservation_reserves_more(store: Store) -> None:
    async def test(bench: Bench) -> None:
        for name, held_before in (("a", 0), ("b", 4096 + STEP)):
            assert await bench.ask(model="gpt-4o-mini", input="Tell all that you know.")
            assert await bench.begin(name)
            least = held_before + 4096
            asked = standing(store, bench.token.id, "tokens/minute")[1]
            assert least < asked < least + 100
            for _ in range(2):
                assert await bench.upstream("response.output_text.delta", response_id=name, delta="word " * 1000)
            (growth,) = {turn.growth for turn in bench.session._under_way} - {None}  # noqa: SLF001
            assert growth is not None
            await growth._task  # type: ignore[misc]  # noqa: SLF001 - it is awaited instead of a pause
            assert standing(store, bench.token.id, "tokens/minute")[1] == asked + STEP
            assert await bench.finish(name)

    run(store, test, RESPONSES_PATH, rate_limits=[{"tokens": 100_000, "per": "minute"}])


def test_a_first_response_of_another_period_of_a_budget_is_a_further_one(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.ask()
        assert bench.count == 2
        assert await bench.begin("a")
        assert await bench.finish("a")
        assert bench.inputs == [INPUT]
        assert bench.meter.read().units == {}

    async def refuse(_: Admission, opened: Opened, *_args: object) -> Extended:
        return Extended(opened, is_past=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Admission, "extend", refuse)
        run(store, test)


def test_an_error_about_an_ask_costs_nothing(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert await bench.ask(event_id="mine")
        assert await bench.upstream("error", error={"code": "invalid_value", "event_id": "mine"})
        (turn,) = bench.ended
        assert turn.has_failed

    run(store, test)


# Cuts.


@pytest.mark.parametrize("path", [REALTIME_PATH, RESPONSES_PATH])
def test_a_session_that_is_cut_settles_its_responses_and_is_closed_with_an_error(store: Store, path: str) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.respond("a")
        assert await bench.ask()
        assert await bench.begin("b")
        assert await bench.ask()
        bench.session.cut(TokenInactive())
        assert sorted(turn.response_id for turn in bench.ended) == ["", "b"]
        assert [turn.cut.code for turn in bench.ended if turn.cut] == ["token_inactive"] * 2
        ((event, side),) = bench.replies()
        assert (side, event["type"], event["status"]) == ("client", "error", 401)
        assert (event["error"]["code"], event["error"]["event_id"]) == ("token_inactive", None)
        assert bench.session.closing == Closing(CloseReason.POLICY_VIOLATION, "The token has been revoked.")
        assert (bench.refused, bench.woken) == ([], 0)  # its exchange has its own way to wake it

    run(store, test, path)


def test_a_session_is_cut_once_and_not_after_its_end(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.ask()
        bench.session.end()
        bench.session.cut(TokenInactive())
        assert (bench.replies(), bench.session.closing) == ([], None)

    async def twice(bench: Bench) -> None:
        assert await bench.respond("a")
        assert await bench.ask()
        for error in (TokenInactive(), ProjectInactive()):
            bench.session.cut(error)
        bench.session.end()
        assert [turn.cut.code for turn in bench.ended if turn.cut] == ["token_inactive"]
        assert bench.errors() == [("token_inactive", None)]

    run(store, test)
    run(store, twice)


def test_no_message_passes_after_the_cut(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.ask()
        assert await bench.begin("a")
        bench.session.cut(TokenInactive())
        assert not await bench.client("input_audio_buffer.append", audio="AAAA")
        assert not await bench.ask()
        assert not await bench.upstream("response.output_audio.delta", response_id="a", delta="AAAA")
        assert not await bench.finish("a")
        assert bench.errors() == [("token_inactive", None)]
        assert (bench.count, bench.refused) == (1, [])

    run(store, test)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_response_that_is_admitted_while_its_session_is_cut_is_settled_and_not_forwarded(
    store: Store, is_first: bool
) -> None:
    async def test(bench: Bench) -> None:
        assert is_first or await bench.respond("a")
        asking = asyncio.create_task(bench.ask())
        await asyncio.sleep(0)
        bench.session.cut(TokenInactive())
        assert not await asking
        assert bench.errors() == [("token_inactive", None)]  # and no other one
        assert bench.refused == []
        assert bench.count == (1 if is_first else 2)
        async with asyncio.timeout(DEADLINE):
            while not all(row["settled_at"] for row in rows(store, "request") if row["session_id"]):
                await asyncio.sleep(0.01)

    run(store, test)


def outgrown(tokens: int) -> Any:
    """Return limits of a token that has a little more than is reserved for a response without a bound of its own."""
    return {"rate_limits": [{"tokens": tokens, "per": "minute"}]}


async def outgrow(bench: Bench, name: str, kind: str) -> None:
    """Have a response show more than is left, in two steps: what is left is reserved first."""
    assert await bench.upstream(kind, response_id=name, delta="word " * 4000)
    (growth,) = {turn.growth for turn in bench.session._under_way} - {None}  # noqa: SLF001
    assert growth is not None
    await growth._task  # type: ignore[misc]  # noqa: SLF001 - it is awaited instead of a pause


def test_a_realtime_response_that_outgrows_what_is_left_is_cancelled_and_the_session_goes_on(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.ask(event_id="mine")
        assert await bench.begin("a")
        await outgrow(bench, "a", "response.output_text.delta")
        (error, to_client), (cancel, to_upstream) = bench.replies()
        assert (to_client, error["error"]["code"], error["error"]["event_id"]) == (
            "client",
            "insufficient_quota",
            "mine",
        )
        assert (to_upstream, cancel["type"], cancel["response_id"]) == ("upstream", "response.cancel", "a")
        assert bench.woken == 1
        assert not await bench.upstream("response.output_text.delta", response_id="a", delta="more")
        assert not await bench.finish("a")
        assert await bench.client("input_audio_buffer.append", audio="AAAA")
        assert (bench.session.closing, bench.refused) == (None, [])

    run(store, test, **outgrown(73_000))


def test_a_response_over_a_responses_websocket_that_outgrows_what_is_left_closes_it(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.ask(model="gpt-4o-mini", input="Tell all that you know.", event_id="mine")
        assert await bench.begin("a")
        await outgrow(bench, "a", "response.output_text.delta")
        assert bench.errors() == [("insufficient_quota", "mine")]
        assert bench.session.closing is not None
        assert bench.session.closing.code == CloseReason.POLICY_VIOLATION
        assert bench.woken == 1

    run(store, test, RESPONSES_PATH, **outgrown(5000))


def test_a_further_response_that_is_cut_is_settled_with_its_code(store: Store) -> None:
    async def test(bench: Bench) -> None:
        for name in ("a", "b"):
            assert await bench.ask(model="gpt-4o-mini", input="Tell all that you know.", max_output_tokens=16)
            assert await bench.begin(name)
            assert await bench.finish(name, usage=RESPONSE)
        assert await bench.ask(model="gpt-4o-mini", input="Tell all that you know.")
        assert await bench.begin("c")
        await outgrow(bench, "c", "response.output_text.delta")
        assert [turn.cut.code if turn.cut else None for turn in bench.ended] == [None, "insufficient_quota"]

    run(store, test, RESPONSES_PATH, **outgrown(5000))


def test_the_end_of_a_response_that_has_outgrown_what_is_left_ends_it_well(store: Store) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.ask(model="gpt-4o-mini", input="Tell all that you know.")
        assert await bench.begin("a")
        (turn,) = bench.session._under_way  # noqa: SLF001
        growth = turn.growth
        assert growth is not None

        def cut_now() -> None:
            growth.cut(TokenInactive())

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(growth, "watch", cut_now)
            assert await bench.finish("a", usage=RESPONSE)
        assert (bench.replies(), bench.session.closing, bench.woken) == ([], None, 0)

    run(store, test, RESPONSES_PATH, **outgrown(5000))
