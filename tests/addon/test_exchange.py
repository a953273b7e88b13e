import asyncio
import dataclasses
from unittest.mock import Mock

import pytest
from mitmproxy import http
from mitmproxy.test import tflow
from support.gateway.requests import make_request, make_response
from support.stores.stores import API_KEY

from addon import exchange as exchange_module
from addon.exchange import Exchange, Exchanges
from addon.protocol.last_event import last_event
from addon.spool import Spool
from addon.streaming import EventTap, Tap
from addon.websocket_session import WebSocketSession
from store.admission.decision import Admitted
from store.admission.running import Running
from store.errors import InvalidToken, ServiceUnavailable, TokenInactive
from store.request import Holder, Opened, Opening, Refused
from store.runtime.settings import Upstream

UPSTREAM = Upstream("https", "host", 443, "/base")
HOLDER = Holder("the-token", None, "the-project", "Search")
ADMITTED = Admitted(Opened("id", 0, "the-project", "the-token", "/v1/models"), HOLDER, API_KEY)


class Bench:
    """Exchanges, and those that have ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[http.HTTPFlow, Exchange]] = []
        self.exchanges = Exchanges(self._end)

    def _end(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        self.ended.append((flow, exchange))

    def open(self, flow_id: str, client_id: str = "client", token: str | None = None) -> Exchange:
        flow = tflow.tflow(req=make_request())
        flow.id, flow.client_conn.id = flow_id, client_id
        exchange = self.exchanges.open(flow)
        exchange.token = token
        return exchange


def admitted() -> Exchange:
    exchange = Bench().open("flow", token="the-token-value")
    exchange.admit(ADMITTED, UPSTREAM, make_request())
    return exchange


def test_an_exchange_ends_once_and_forgets_its_secrets_and_its_flow() -> None:
    bench = Bench()
    exchange = bench.open("flow", token="token")
    flow = exchange.flow
    exchange.admit(ADMITTED, UPSTREAM, make_request())
    assert bench.exchanges.get("flow") is exchange
    assert bench.exchanges.finish("flow") is exchange
    assert (exchange.grant, exchange.token, exchange.flow, exchange.finished) == (None, None, None, True)
    assert bench.exchanges.finish("flow") is None
    assert bench.exchanges.get("flow") is None
    assert len(bench.exchanges) == 0
    assert bench.ended == [(flow, exchange)]


def test_the_exchange_of_an_earlier_replay_is_finished_when_its_flow_is_replayed_again() -> None:
    bench = Bench()
    flow = tflow.tflow(req=make_request())
    flow.is_replay = "request"
    first, second = [bench.exchanges.open(flow) for _ in range(2)]
    assert bench.ended == [(flow, first)]
    assert bench.exchanges.get(flow.id) is second
    assert second.client_id == ""


def test_secrets_are_not_in_the_repr() -> None:
    exchange = admitted()
    assert exchange.token
    assert API_KEY not in repr(exchange)
    assert "the-token-value" not in repr(exchange)


def test_the_first_refusal_holds_and_nothing_can_be_sent_after_it() -> None:
    exchange = admitted()
    first = ServiceUnavailable()
    exchange.refuse(first)
    assert (exchange.grant, exchange.token) == (None, None)
    exchange.refuse(InvalidToken())
    assert exchange.refusal is first


def test_a_refusal_takes_the_place_of_a_client_that_has_gone_and_not_the_other_way_round() -> None:
    exchange, refusal = admitted(), InvalidToken()
    exchange.abandon()
    assert (type(exchange.refusal), exchange.grant) == (ServiceUnavailable, None)
    exchange.refuse(refusal)
    exchange.abandon()
    exchange.refuse(ServiceUnavailable())
    assert exchange.refusal is refusal


def test_a_request_that_was_refused_while_the_store_decided_is_admitted_without_a_grant() -> None:
    exchange = Exchange()
    exchange.refuse(ServiceUnavailable())
    exchange.admit(ADMITTED, UPSTREAM, make_request())
    assert exchange.grant is None
    assert exchange.opened == ADMITTED.opened  # so that it is settled


def test_the_holder_of_a_refused_token_is_known() -> None:
    error = TokenInactive()
    error.refused = Refused(Opening("id", "GET", "/v1/models", "/v1/models", reserved=None), HOLDER, 0)
    exchange = Exchange()
    exchange.refuse(ServiceUnavailable())
    exchange.refuse(error)
    assert exchange.holder == HOLDER


def test_a_body_that_is_read_first_is_kept_with_the_token_until_the_end() -> None:
    bench = Bench()
    exchange, spool = bench.open("flow", token="the-token-value"), Spool(1)
    exchange.begin_spool(exchange.pop_token(), spool)
    assert (exchange.token, exchange.spool) == ("the-token-value", spool)
    bench.exchanges.finish("flow")
    assert (exchange.token, exchange.spool) == (None, None)
    assert spool.is_closed


def test_no_body_is_kept_for_a_request_that_was_refused_or_has_ended_while_the_store_decided() -> None:
    bench = Bench()
    refused, ended = bench.open("refused", token="a"), bench.open("ended", token="b")
    refused.refuse(ServiceUnavailable())
    bench.exchanges.finish("ended")
    for exchange in (refused, ended):
        spool = Spool(1)
        exchange.begin_spool("a token", spool)
        assert spool.is_closed
        assert (exchange.token, exchange.spool) == (None, None)


def test_a_token_is_used_once() -> None:
    exchange = Exchange()
    exchange.token = "the-token-value"
    assert (exchange.pop_token(), exchange.pop_token()) == ("the-token-value", "")


@pytest.mark.parametrize(("upstream_id", "kept"), [("req_1", "req_1"), (f"req_{API_KEY}", None), ("a b", None)])
def test_an_id_of_the_upstream_is_kept_if_it_cannot_hold_the_key(upstream_id: str, kept: str | None) -> None:
    exchange = admitted()
    exchange.note_sent()
    exchange.begin_response(make_response(("X-Request-ID", upstream_id)))
    assert exchange.upstream_request_id == kept


def test_without_a_grant_no_id_of_the_upstream_is_kept() -> None:
    exchange = admitted()
    exchange.refuse(ServiceUnavailable())
    exchange.begin_response(make_response(("X-Request-ID", "req_1")))
    assert exchange.upstream_request_id is None


def test_the_upstreams_duration_is_zero_before_its_response_has_begun() -> None:
    exchange = admitted()
    assert exchange.remote_ms == 0
    exchange.note_sent()
    assert exchange.remote_ms == 0
    exchange.begin_response(make_response())
    assert exchange.sent_at is not None
    assert exchange.answered_at is not None
    assert exchange.remote_ms == round((exchange.answered_at - exchange.sent_at) * 1000)


def test_each_exchange_has_an_id_of_its_own() -> None:
    bench = Bench()
    assert len({bench.open(str(number)).request_id for number in range(100)}) == 100


def test_waiting_ends_with_the_last_exchange() -> None:
    async def main() -> None:
        bench = Bench()
        exchanges = bench.exchanges
        await asyncio.wait_for(exchanges.drain(), 1)
        bench.open("one")
        bench.open("two")
        waiting = asyncio.create_task(exchanges.drain())
        await asyncio.sleep(0)
        exchanges.finish("one")
        await asyncio.sleep(0)
        assert not waiting.done()
        bench.open("three")
        exchanges.finish("two")
        await asyncio.sleep(0)
        assert not waiting.done()
        exchanges.finish("three")
        await asyncio.wait_for(waiting, 1)

    asyncio.run(main())


def test_the_exchanges_of_a_client_are_known() -> None:
    bench = Bench()
    for flow, client in (("one", "gone"), ("two", "here"), ("three", "gone")):
        bench.open(flow, client)
    assert [*bench.exchanges.of("gone")] == ["one", "three"]
    assert bench.exchanges.all() == ["one", "two", "three"]


def test_all_that_were_opened_are_counted() -> None:
    bench = Bench()
    bench.open("one")
    bench.open("one")
    bench.exchanges.finish("one")
    bench.open("two")
    assert bench.exchanges.opened == 3


def test_room_for_a_body_is_used_up_only_where_there_is_a_bound() -> None:
    bounded, unbounded = Exchange(room=10), Exchange()
    assert [bounded.has_room(size) for size in (4, 6, 0, 1, 0)] == [True, True, True, False, False]
    assert unbounded.has_room(2**60)


# Cuts.


class Cuttable:
    """An admitted exchange, and what its transport was told."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.exchange = self.bench.open("flow")
        self.exchange.admit(ADMITTED, UPSTREAM, make_request())
        self.stops: list[bytes | None] = []
        self.exchange.stop = self.stops.append

    def stream(self, *headers: tuple[str | bytes, str | bytes]) -> None:
        """Begin a response that is passed on as it comes."""
        self.exchange.note_sent()
        self.exchange.begin_response(make_response(("Content-Type", "text/event-stream"), *headers))
        self.exchange.tap = EventTap(self.exchange.watch_response)


def test_an_exchange_is_cut_once() -> None:
    it, first = Cuttable(), TokenInactive()
    it.exchange.cut(first)
    it.exchange.cut(InvalidToken())
    assert (it.exchange.refusal, it.exchange.grant, it.stops) == (first, None, [None])


@pytest.mark.parametrize("end", ["finished", "refused", "abandoned", "whole"])
def test_an_exchange_that_has_ended_is_not_cut(end: str) -> None:
    it = Cuttable()
    if end == "finished":
        it.bench.exchanges.finish("flow")
    elif end == "refused":
        it.exchange.refuse(ServiceUnavailable())
    elif end == "abandoned":
        it.exchange.abandon()
    else:
        it.exchange.end_response(make_response())
    before = it.exchange.refusal
    it.exchange.cut(TokenInactive())
    assert (it.exchange.refusal, it.stops) == (before, [])


def test_a_stream_is_cut_with_the_last_event_of_its_endpoint() -> None:
    async def main() -> None:
        it = Cuttable()
        it.stream()
        assert it.exchange.tap is not None
        it.exchange.tap(b"data: a\n\n")
        it.exchange.cut(TokenInactive())
        assert it.stops == []  # what calls it may be the tap itself
        await asyncio.sleep(0)
        assert it.stops == [last_event("/v1/models", TokenInactive(), it.exchange.request_id)]
        assert not it.exchange.tap(b"data: b\n\n")

    asyncio.run(main())


def test_a_stream_within_an_event_gets_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "PATIENCE", 0.01)

    async def main() -> None:
        it = Cuttable()
        it.stream()
        assert it.exchange.tap is not None
        it.exchange.tap(b"data: a")
        it.exchange.cut(TokenInactive())
        await asyncio.sleep(0)
        assert it.stops == []
        await asyncio.sleep(0.05)
        assert it.stops == [None]

    asyncio.run(main())


def test_an_exchange_that_is_finished_within_that_time_is_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "PATIENCE", 0.01)

    async def main() -> None:
        it = Cuttable()
        it.stream()
        assert it.exchange.tap is not None
        it.exchange.tap(b"data: a")
        it.exchange.cut(TokenInactive())
        it.bench.exchanges.finish("flow")
        await asyncio.sleep(0.05)
        assert it.stops == []

    asyncio.run(main())


def test_a_response_that_cannot_end_between_events_is_stopped_at_once() -> None:
    it = Cuttable()
    it.exchange.tap = Tap(it.exchange.watch_response)
    it.exchange.cut(TokenInactive())
    assert it.stops == [None]


def test_a_websocket_is_cut_by_its_session_though_the_response_that_opened_it_is_whole() -> None:
    it, session = Cuttable(), Mock(WebSocketSession)
    it.exchange.begin_session(session)
    it.exchange.end_response(make_response())
    error = TokenInactive()
    it.exchange.cut(error)
    session.cut.assert_called_once_with(error)
    assert (it.exchange.refusal, it.stops) == (error, [None])


def test_nothing_that_is_kept_of_a_finished_exchange_leads_to_its_transport() -> None:
    it = Cuttable()
    it.stream()
    it.bench.exchanges.finish("flow")
    it.exchange.stop(None)
    assert (it.stops, it.exchange.tap, it.exchange.on_response) == ([], None, None)


def test_running_exchanges_are_known_by_their_tokens_and_values() -> None:
    bench = Bench()
    for flow_id, token_id, lookup in (
        *(("one", "a", "x"), ("two", "a", "x"), ("three", "a", "former"), ("four", "b", "y"), ("replay", "a", "")),
        *(("refused", "a", "x"), ("ended", "a", "x")),
    ):
        opened = ADMITTED.opened._replace(token_id=token_id)
        bench.open(flow_id).admit(dataclasses.replace(ADMITTED, opened=opened, lookup=lookup), UPSTREAM, make_request())
    bench.open("not admitted")
    refused = bench.exchanges.get("refused")
    assert refused is not None
    refused.refuse(ServiceUnavailable())
    bench.exchanges.finish("ended")
    one, two, three, four, replay = (
        bench.exchanges.get(flow_id) for flow_id in ("one", "two", "three", "four", "replay")
    )
    assert bench.exchanges.running() == {
        Running("a", "x"): [one, two],
        Running("a", "former"): [three],
        Running("b", "y"): [four],
        Running("a", ""): [replay],
    }


def test_the_lookup_is_not_in_the_repr() -> None:
    exchange = Exchange()
    exchange.admit(dataclasses.replace(ADMITTED, lookup="the HMAC"), UPSTREAM, make_request())
    assert exchange.lookup == "the HMAC"
    assert "the HMAC" not in repr(exchange)
