import asyncio
import gc
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mitmproxy import http
from mitmproxy.addons.view import View
from mitmproxy.test import taddons
from support.gateway.flows import admitted_flow
from support.gateway.requests import make_request, make_response
from support.stores.stores import API_KEY, make_settings, make_token, opened, opening

from addon import annotations, ending
from addon.annotations import Used
from addon.ending import Settling
from addon.exchange import Exchange
from addon.metering.estimates.estimate_request import EstimateRequest
from addon.metering.estimates.estimator import Estimator
from addon.metering.meter import Meter
from addon.websocket_session import Turn
from store.admission.admission import Admission
from store.database.models import Request
from store.errors import ServiceUnavailable, TokenInactive
from store.ledger.usage import Consumption, Metered, Source
from store.request import Holder, Opened
from store.runtime.settings import Upstream
from store.store import Store

UPSTREAM = Upstream("https", "api.openai.com", 443, "")
JSON = ("Content-Type", "application/json")
EVENTS = ("Content-Type", "text/event-stream")
EVENT = b'data: {"model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": "Hello"}}]}\n\n'
ESTIMATE = Metered(Source.ESTIMATED, (Consumption("gpt-4o", {"input_tokens": 3, "output_tokens": 1}),), model="gpt-4o")
REQUEST_ID = "0"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(make_settings(tmp_path)) as store:
        yield store


@pytest.fixture
def admission(store: Store) -> Iterator[Admission]:
    admission = Admission(store)
    yield admission
    admission.close()


@pytest.fixture
def settling(admission: Admission) -> Iterator[Settling]:
    settling = Settling(admission)
    yield settling
    settling.close()


async def admitted(store: Store, admission: Admission) -> Exchange:
    exchange = Exchange()
    token = make_token(store)
    admitted = await admission.admit(token.value, opening())
    exchange.admit(admitted, UPSTREAM, make_request(JSON, method="POST", path="/v1/chat/completions"))
    exchange.watch_request(b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}')
    return exchange


async def streamed(store: Store, admission: Admission) -> Exchange:
    """Return an exchange whose response reported no usage."""
    exchange = await admitted(store, admission)
    exchange.begin_response(make_response(EVENTS))
    exchange.watch_response(EVENT)
    return exchange


def only_row(store: Store, admission: Admission) -> Request:
    admission.close()
    with store.database.read():
        (row,) = Request.select()
    return row


def test_an_exchange_that_was_not_admitted_is_not_settled(settling: Settling) -> None:
    assert settling.settle(Exchange()) == Metered()


def test_the_usage_that_the_upstream_reports_is_written(
    store: Store, admission: Admission, settling: Settling, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[Opened] = []
    monkeypatch.setattr(admission, "release", released.append)

    async def main() -> None:
        exchange = await admitted(store, admission)
        response = make_response(JSON, ("X-Request-ID", "req_1"), ("Content-Length", "9"))
        exchange.begin_response(response)
        response.raw_content = b'{"usage": {"prompt_tokens": 7, "completion_tokens": 2}}'
        exchange.end_response(response)
        reported = settling.settle(exchange)
        assert reported.units == {"input_tokens": 7, "output_tokens": 2}
        assert released == []  # the settlement does that too
        assert exchange.meter is None

    asyncio.run(main())
    row = only_row(store, admission)
    assert (row.usage_source, row.input_tokens, row.status, row.upstream_request_id) == ("observed", 7, 200, "req_1")
    assert row.response_bytes == 55


@pytest.mark.parametrize("request_id", [b"", b"a b", b"a\xffb", b"x" * 200])
def test_a_request_id_that_is_no_plain_word_is_not_kept(
    store: Store, admission: Admission, settling: Settling, request_id: bytes
) -> None:
    async def main() -> None:
        exchange = await admitted(store, admission)
        response = make_response(JSON)
        response.headers.fields += ((b"X-Request-ID", request_id),)
        exchange.begin_response(response)
        settling.settle(exchange)

    asyncio.run(main())
    assert only_row(store, admission).upstream_request_id is None


def test_a_usage_that_was_not_reported_is_estimated(
    store: Store, admission: Admission, settling: Settling, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[Opened] = []

    async def estimate(_: Estimator, request: EstimateRequest) -> Metered:
        assert request.model == "gpt-4o"
        assert len(released) == 1
        return ESTIMATE

    monkeypatch.setattr(Estimator, "estimate", estimate)
    monkeypatch.setattr(admission, "release", released.append)

    estimates = []

    async def on_estimate(metered: Metered) -> None:
        estimates.append(metered)

    async def main() -> None:
        exchange = await streamed(store, admission)
        assert settling.settle(exchange, on_estimate).source is Source.UNKNOWN
        assert (released, estimates) == ([exchange.opened], [])
        await settling.drain()

    asyncio.run(main())
    assert estimates == [ESTIMATE]
    row = only_row(store, admission)
    assert (row.usage_source, row.input_tokens, row.output_tokens, row.streamed) == ("estimated", 3, 1, True)
    assert row.response_bytes == len(EVENT)


def test_an_estimate_that_fails_leaves_the_usage_unknown(
    store: Store, admission: Admission, settling: Settling, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def estimate(_: Estimator, request: EstimateRequest) -> Metered:
        raise RuntimeError(request.endpoint)

    monkeypatch.setattr(Estimator, "estimate", estimate)

    async def on_estimate(metered: Metered) -> None:
        raise AssertionError(metered)

    async def main() -> None:
        settling.settle(await streamed(store, admission), on_estimate)
        await settling.drain()

    asyncio.run(main())
    row = only_row(store, admission)
    assert (row.usage_source, row.status, row.output_tokens) == ("unknown", 200, None)


def test_a_request_is_settled_without_the_estimate_that_is_being_made_at_the_end(
    store: Store, admission: Admission, settling: Settling, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def estimate(_: Estimator, request: EstimateRequest) -> Metered:
        await asyncio.Event().wait()
        raise AssertionError(request)

    monkeypatch.setattr(Estimator, "estimate", estimate)

    async def main() -> None:
        settling.settle(await streamed(store, admission))
        await asyncio.sleep(0)
        settling.close()

    asyncio.run(main())
    assert only_row(store, admission).usage_source == "unknown"


def test_the_status_is_the_one_that_the_client_got(store: Store, admission: Admission, settling: Settling) -> None:
    """A response that is read whole before it is passed on does not reach the client if it breaks off."""

    async def main() -> None:
        exchange = await admitted(store, admission)
        exchange.begin_response(make_response(JSON, ("Content-Length", "900")))
        exchange.refuse(ServiceUnavailable())
        settling.settle(exchange)

    asyncio.run(main())
    row = only_row(store, admission)
    assert (row.status, row.response_bytes, row.streamed) == (503, None, False)


def test_a_row_has_the_code_of_the_error_that_ended_its_request(
    store: Store, admission: Admission, settling: Settling
) -> None:
    async def main() -> None:
        exchange = await admitted(store, admission)
        exchange.note_sent()
        exchange.begin_response(make_response(EVENTS))
        exchange.watch_response(EVENT)
        exchange.cut(TokenInactive())
        settling.settle(exchange)
        await settling.drain()

    asyncio.run(main())
    row = only_row(store, admission)
    assert (row.status, row.streamed, row.code) == (200, True, "token_inactive")
    assert row.response_bytes == len(EVENT)


def test_a_row_has_no_code_where_the_client_has_gone(store: Store, admission: Admission, settling: Settling) -> None:
    async def main() -> None:
        exchange = await admitted(store, admission)
        exchange.abandon()
        exchange.cut(TokenInactive())
        settling.settle(exchange)

    asyncio.run(main())
    assert only_row(store, admission).code is None


def test_a_response_over_a_websocket_has_the_code_that_it_was_cut_with(
    store: Store, admission: Admission, settling: Settling
) -> None:
    async def main() -> None:
        exchange = await admitted(store, admission)
        exchange.status = 101
        assert exchange.opened is not None
        meter = Meter("GET", "/v1/realtime", "gpt-4o")
        meter.begin_socket()
        settling.settle_turn(exchange, Turn(meter, exchange.opened, cut=TokenInactive()), exchange.opened)
        await settling.drain()

    asyncio.run(main())
    row = only_row(store, admission)
    assert (row.status, row.code) == (101, "token_inactive")


@pytest.mark.parametrize(("status", "settled"), [(None, 101), (404, 404)])
@pytest.mark.parametrize(("response_id", "kept"), [("resp_1", "resp_1"), (f"resp_{API_KEY}", None), ("", None)])
def test_a_response_over_a_websocket_has_its_own_outcome(
    store: Store,
    admission: Admission,
    settling: Settling,
    status: int | None,
    settled: int,
    response_id: str,
    kept: str,
) -> None:
    async def settle() -> None:
        exchange = await admitted(store, admission)
        exchange.status = 101
        assert exchange.opened is not None
        meter = Meter("GET", "/v1/realtime", "gpt-4o")
        meter.begin_socket()
        meter.feed_message(b"12345", from_client=True, is_text=True)
        done = {"type": "response.done", "response": {"usage": {"input_tokens": 1, "output_tokens": 2}}}
        meter.feed_message(json.dumps(done).encode(), from_client=False, is_text=True)
        now = time.monotonic()
        turn = Turn(meter, exchange.opened, admitted=now - 2, began=now - 1, response_id=response_id, status=status)
        assert settling.settle_turn(exchange, turn, exchange.opened).source is Source.OBSERVED

    asyncio.run(settle())
    row = only_row(store, admission)
    assert (row.status, row.streamed, row.upstream_request_id) == (settled, True, kept)
    assert row.first_byte_ms == 1000
    assert (row.duration_ms or 0) >= 2000
    assert row.request_bytes == 5
    assert (row.response_bytes or 0) > 5
    assert row.cost is not None  # by the upstream's prices


class Listener:
    """An addon that records the hooks that it gets."""

    def __init__(self) -> None:
        self.noted: list[Used] = []
        self.updated: list[http.HTTPFlow] = []

    def usage_noted(self, flow: http.HTTPFlow) -> None:
        assert self.updated == []
        self.noted.append(annotations.used(flow))

    def update(self, flows: list[http.HTTPFlow]) -> None:
        self.updated += flows


def estimate(flow: http.HTTPFlow, request_id: str = REQUEST_ID) -> Listener:
    """Note the estimate of a request."""
    listener = Listener()

    async def main() -> None:
        with taddons.context(View(), listener):
            await ending.when_estimated(flow, request_id, annotations.note_used)(ESTIMATE)

    asyncio.run(main())
    return listener


def test_an_estimate_is_noted_and_then_shown_as_a_change_of_the_flow() -> None:
    flow = admitted_flow()
    listener = estimate(flow)
    assert listener.noted == [Used("gpt-4o", 3, 1, is_estimated=True)]
    assert listener.updated == [flow]


def test_an_estimate_from_before_a_replay_is_dropped() -> None:
    flow = admitted_flow()
    annotations.write(flow, "1", Holder("2", None, "1", "Search"))
    listener = estimate(flow)
    assert (listener.noted, listener.updated) == ([], [])
    assert annotations.used(flow) == Used()


def test_a_flow_that_nothing_shows_is_not_kept() -> None:
    noted: list[http.HTTPFlow] = []
    note_later = ending.when_estimated(admitted_flow(), REQUEST_ID, lambda flow, _: noted.append(flow))
    gc.collect()

    async def main() -> None:
        await note_later(ESTIMATE)

    asyncio.run(main())
    assert noted == []
