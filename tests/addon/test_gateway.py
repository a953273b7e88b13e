import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from mitmproxy import flow, http
from mitmproxy.test import taddons, tflow
from mitmproxy.websocket import WebSocketData, WebSocketMessage
from support.gateway.inprocess import hooked
from support.gateway.judging import REFUSED, Judge
from support.gateway.processes import DEADLINE
from support.gateway.requests import UPGRADE, make_request, make_response
from support.stores.stores import (
    API_KEY,
    UNKNOWN_TOKEN,
    changed,
    foreign_lock,
    make_settings,
    make_token,
    opened,
    rows,
    set_columns,
)
from wsproto.frame_protocol import Opcode

from addon import access_log, annotations, gateway, responses
from addon.exchange import Exchange
from addon.gateway import Gateway
from addon.metering.estimates.estimate_request import EstimateRequest
from addon.metering.estimates.estimator import Estimator
from addon.streaming import Tap
from store.admission.admission import Admission
from store.database.models import Request
from store.ledger.ledger import Settlement
from store.ledger.usage import Consumption, Metered, Source
from store.management.projects import Projects
from store.management.tokens import TokenRecord, Tokens
from store.runtime.settings import Settings
from store.store import Store


@pytest.fixture
def settings(tmp_path: Any) -> Settings:
    return make_settings(tmp_path, upstream_url="http://upstream:1234/base")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with opened(settings) as store:
        yield store


@pytest.fixture
def token(store: Store) -> TokenRecord:
    return make_token(store)


class Bench:
    """A gateway in a context of mitmproxy's, with the flows that are given to it."""

    def __init__(self, addon: Gateway, context: taddons.context) -> None:
        self.gateway = addon
        self.context = context
        self.exchanges = addon.exchanges

    async def send(self, *headers: tuple[str, str], token: str | None = None, **request: Any) -> http.HTTPFlow:
        """Call the hooks of a request, up to where mitmproxy would send it upstream, or answer."""
        http_flow = self.flow(*headers, token=token, **request)
        await self.begin(http_flow)
        http_flow.request.timestamp_end = 1.0
        if not http_flow.error:
            await self.gateway.request(http_flow)
        return http_flow

    async def begin(self, http_flow: http.HTTPFlow) -> Exchange:
        """Open an exchange and call the first hook, as the keyed layer does."""
        exchange = self.exchanges.open(http_flow)
        await self.gateway.requestheaders(http_flow)
        return exchange

    def flow(self, *headers: tuple[str, str], token: str | None = None, **request: Any) -> http.HTTPFlow:
        authorization = [] if token is None else [("Authorization", f"Bearer {token}")]
        http_flow = tflow.tflow(req=make_request(*authorization, *headers, **request))
        http_flow.request.timestamp_end = None
        http_flow.request.host, http_flow.request.port, http_flow.request.scheme = "upstream", 1234, "http"
        return http_flow

    def upload(self, token: str) -> http.HTTPFlow:
        """Return the flow of an upload whose body is still to come."""
        http_flow = self.flow(("Transfer-Encoding", "chunked"), token=token, method="POST")
        http_flow.request.raw_content = None
        return http_flow


def run(
    settings: Settings,
    store: Store,
    test: Callable[[Bench], Coroutine[object, object, None]],
    mode: str = "reverse:http://upstream:1234",
) -> None:
    async def main() -> None:
        with hooked(settings, store, mode) as (gateway, context):
            await test(Bench(gateway, context))

    asyncio.run(main())


def code_of(http_flow: http.HTTPFlow) -> str | None:
    if http_flow.response is None:
        return None
    body = json.loads(http_flow.response.text or "")
    assert http_flow.response.headers[responses.REQUEST_ID]
    return str(body["code"])


def test_an_admitted_request_holds_a_grant_and_no_secret(settings: Settings, store: Store, token: TokenRecord) -> None:
    async def test(bench: Bench) -> None:
        http_flow = await bench.send(token=token.value)
        exchange = bench.exchanges.get(http_flow.id)
        assert http_flow.response is None
        assert exchange is not None
        assert exchange.grant is not None
        assert exchange.grant.destination == ("upstream", 1234, False)
        assert (exchange.grant.api_key, exchange.grant.path_prefix) == (API_KEY, "/base")
        assert exchange.token is None
        assert exchange.opened is not None
        assert (exchange.opened.token_id, exchange.opened.project_id) == (token.id, token.project_id)
        state = repr(http_flow.get_state())
        assert token.value not in state
        assert API_KEY not in state

    run(settings, store, test)
    assert Tokens(store).get(token.id).request_count == 1


REFUSALS: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "invalid_token": ({"token": UNKNOWN_TOKEN}, []),
    "invalid_request": ({"token": UNKNOWN_TOKEN}, [("Authorization", "Bearer x")]),
    "not_found": ({"path": "/v2"}, []),
    "method_not_allowed": ({"method": "TRACE"}, []),
}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_request_is_refused_before_the_store_counts(
    settings: Settings, store: Store, token: TokenRecord, code: str
) -> None:
    async def test(bench: Bench) -> None:
        request, headers = REFUSALS[code]
        http_flow = await bench.send(*headers, **request)
        assert code_of(http_flow) == code
        assert bench.exchanges.get(http_flow.id).grant is None  # type: ignore[union-attr]
        bench.gateway.response(http_flow)
        assert len(bench.exchanges) == 0

    run(settings, store, test)
    assert Tokens(store).get(token.id).request_count == 0


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"is_active": False}, "token_inactive"),
        ({"expires_at": 1}, "token_expired"),
        ({"max_requests": 1, "request_count": 1}, "insufficient_quota"),
    ],
)
@pytest.mark.parametrize("length", ["5", "5000000"], ids=["small", "large"])
def test_the_stores_refusal_is_the_response(
    settings: Settings, store: Store, token: TokenRecord, columns: dict[str, object], code: str, length: str
) -> None:
    set_columns(store, "token", token.id, **columns)

    async def test(bench: Bench) -> None:
        http_flow = await bench.send(("Content-Length", length), token=token.value, method="POST")
        assert code_of(http_flow) == code
        # mitmproxy would read a large body first: so it is stopped, and the layer answers
        assert (http_flow.error is not None) == (length != "5")
        assert not http_flow.request.stream
        assert token.value not in repr(http_flow.get_state())

    run(settings, store, test)


def test_a_project_that_is_off_is_refused(settings: Settings, store: Store, token: TokenRecord) -> None:
    Projects(store).update(token.project_id, {"is_active": False})

    async def test(bench: Bench) -> None:
        http_flow = await bench.send(token=token.value)
        assert code_of(http_flow) == "project_inactive"
        assert json.loads(http_flow.response.text or "")["error"] == "Project is inactive"  # type: ignore[union-attr]

    run(settings, store, test)


def test_a_store_that_does_not_answer_is_not_the_callers_fault(
    settings: Settings, store: Store, token: TokenRecord
) -> None:
    async def test(bench: Bench) -> None:
        with foreign_lock(store):
            http_flow = await bench.send(token=token.value)
        assert code_of(http_flow) == "store_unavailable"

    run(settings, store, test)
    assert Tokens(store).get(token.id).request_count == 0


def test_a_key_that_cannot_be_decrypted_is_not_the_callers_fault(
    settings: Settings, store: Store, token: TokenRecord
) -> None:
    set_columns(store, "project", token.project_id, sealed_api_key=b"damaged")

    async def test(bench: Bench) -> None:
        http_flow = await bench.send(token=token.value)
        assert code_of(http_flow) == "internal_error"
        assert token.project_id in (http_flow.response.text or "")  # type: ignore[union-attr]

    run(settings, store, test)


def test_health_needs_no_token_and_no_store(settings: Settings, store: Store) -> None:
    async def test(bench: Bench) -> None:
        with foreign_lock(store):
            http_flow = await bench.send(path="/health")
        assert http_flow.response is not None
        assert json.loads(http_flow.response.text or "")["status"] == "ok"
        assert bench.exchanges.get(http_flow.id).grant is None  # type: ignore[union-attr]

    run(settings, store, test)


def test_ready_depends_on_the_store(settings: Settings) -> None:
    async def test(bench: Bench) -> None:
        assert await readiness(bench) == (200, "ready")
        with foreign_lock(store):
            assert await readiness(bench) == (503, None)
        assert await readiness(bench) == (200, "ready")

    async def readiness(bench: Bench) -> tuple[int, str | None]:
        http_flow = await bench.send(path="/ready")
        assert http_flow.response is not None
        return http_flow.response.status_code, json.loads(http_flow.response.text or "").get("status")

    impatient = changed(settings, store_timeout=0.2)
    with opened(impatient) as store:
        run(impatient, store, test)


def test_a_token_is_told_how_it_stands_and_nothing_is_counted(settings: Settings, store: Store) -> None:
    token = make_token(store, name="Ann's laptop", max_requests=5, expires_in_days=0)
    set_columns(store, "token", token.id, request_count=5)

    async def test(bench: Bench) -> None:
        http_flow = await bench.send(token=token.value, path="/token?x=1")
        exchange, response = bench.exchanges.get(http_flow.id), http_flow.response
        assert response is not None
        assert exchange is not None
        assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
        assert json.loads(response.text or "") == {
            "name": "Ann's laptop",
            "expires_at": None,
            "max_requests": 5,
            "request_count": 5,
            "limits": [],
        }
        assert (exchange.token, exchange.grant, exchange.opened) == (None, None, None)
        assert token.value not in repr(http_flow.get_state())

    run(settings, store, test)
    assert rows(store, "request") == rows(store, "refusal") == []
    assert Tokens(store).get(token.id).last_used_at is None


@pytest.mark.parametrize(
    ("columns", "code"), [({"is_active": False}, "token_inactive"), ({"expires_at": 1}, "token_expired")]
)
def test_a_token_that_may_make_no_request_is_not_told_how_it_stands(
    settings: Settings, store: Store, token: TokenRecord, columns: dict[str, object], code: str
) -> None:
    set_columns(store, "token", token.id, **columns)

    async def test(bench: Bench) -> None:
        assert code_of(await bench.send(token=token.value, path="/token")) == code
        assert code_of(await bench.send(path="/token")) == "invalid_token"
        assert code_of(await bench.send(("x-api-key", token.value), path="/token")) == code
        assert code_of(await bench.send(token=token.value, path="/token", method="POST")) == "method_not_allowed"

    run(settings, store, test)
    assert rows(store, "refusal") == []


def test_a_streamed_upload_is_admitted_once_and_before_its_body(
    settings: Settings, store: Store, token: TokenRecord
) -> None:
    async def test(bench: Bench) -> None:
        http_flow = bench.upload(token.value)
        await bench.begin(http_flow)
        assert isinstance(http_flow.request.stream, Tap)
        assert bench.exchanges.get(http_flow.id).grant is not None  # type: ignore[union-attr]
        await bench.gateway.request(http_flow)
        assert http_flow.response is None

    run(settings, store, test)
    assert Tokens(store).get(token.id).request_count == 1


@pytest.mark.parametrize(("body", "code"), [(b"hello", None), (REFUSED, "endpoint_not_allowed")])
def test_an_upload_whose_body_is_missing_is_decided_about_once_it_is_there(
    settings: Settings,
    store: Store,
    token: TokenRecord,
    monkeypatch: pytest.MonkeyPatch,
    body: bytes,
    code: str | None,
) -> None:
    judge = Judge()
    judge.install(monkeypatch)

    async def test(bench: Bench) -> None:
        http_flow = bench.upload(token.value)
        exchange = await bench.begin(http_flow)
        assert (http_flow.request.stream, http_flow.response, exchange.grant) == (False, None, None)
        assert exchange.spool is not None
        exchange.spool.write(body)
        http_flow.request.timestamp_end = 1.0
        await bench.gateway.request_spooled(http_flow)
        assert code_of(http_flow) == code
        assert http_flow.error is None  # the body has come: the connection stays usable
        assert isinstance(http_flow.request.stream, Tap) == (exchange.grant is not None) == (code is None)
        assert annotations.is_truncated(http_flow)
        await bench.gateway.request(http_flow)
        bench.gateway.response(http_flow)
        assert judge.spools[0].is_closed

    run(settings, store, test)
    assert Tokens(store).get(token.id).request_count == (code is None)


def test_a_body_that_has_come_for_a_request_that_has_ended_is_not_decided_about(
    settings: Settings, store: Store, token: TokenRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    Judge().install(monkeypatch)

    async def test(bench: Bench) -> None:
        flows = [bench.upload(token.value) for _ in range(2)]
        for http_flow in flows:
            await bench.begin(http_flow)
        bench.exchanges.get(flows[0].id).abandon()  # type: ignore[union-attr]
        bench.exchanges.finish(flows[1].id)
        for http_flow in flows:
            await bench.gateway.request_spooled(http_flow)
            assert not http_flow.request.stream
        bench.exchanges.finish(flows[0].id)

    run(settings, store, test)
    assert Tokens(store).get(token.id).request_count == 0


def test_another_destination_is_refused(settings: Settings, store: Store, token: TokenRecord) -> None:
    async def test(bench: Bench) -> None:
        http_flow = bench.flow(token=token.value)
        await bench.begin(http_flow)
        http_flow.request.host = "attacker"
        await bench.gateway.request(http_flow)
        assert code_of(http_flow) == "destination_refused"
        assert bench.exchanges.get(http_flow.id).grant is None  # type: ignore[union-attr]

    run(settings, store, test)


@pytest.mark.parametrize("hook", ["requestheaders", "request", "responseheaders"])
def test_a_request_whose_hook_raises_is_refused_and_has_no_grant(
    settings: Settings,
    store: Store,
    token: TokenRecord,
    hook: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    step = {
        "requestheaders": "validation.check",
        "request": "validation.is_own",
        "responseheaders": "streaming.is_streamed_response",
    }

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    async def test(bench: Bench) -> None:
        http_flow = bench.flow(token=token.value)
        for name in ("requestheaders", "request", "responseheaders"):
            if name == "responseheaders":
                bench.exchanges.get(http_flow.id).note_sent()  # type: ignore[union-attr]
                http_flow.response = make_response()
            if name == hook:
                monkeypatch.setattr(f"addon.{step[hook]}", fail)
            await (bench.begin if name == "requestheaders" else getattr(bench.gateway, name))(http_flow)
            if name == hook:
                break
        assert code_of(http_flow) == "internal_error"
        exchange = bench.exchanges.get(http_flow.id)
        assert exchange is not None
        assert (exchange.grant, exchange.token) == (None, None)
        assert token.value not in repr(http_flow.get_state())

    run(settings, store, test)
    assert "a bug" in caplog.text
    assert token.value not in caplog.text


def test_a_response_gets_the_ids_and_the_duration(settings: Settings, store: Store, token: TokenRecord) -> None:
    async def test(bench: Bench) -> None:
        http_flow = await bench.send(("X-Request-ID", "clients-own"), token=token.value)
        exchange = bench.exchanges.get(http_flow.id)
        assert exchange is not None
        exchange.note_sent()
        http_flow.response = make_response(("x-request-id", "req_upstream"), ("Content-Length", "2"))
        await bench.gateway.responseheaders(http_flow)
        headers = http_flow.response.headers
        assert headers.get_all("x-request-id") == ["req_upstream"]
        assert headers.get_all(responses.REQUEST_ID) == [exchange.request_id]
        assert int(headers[responses.REMOTE_DURATION]) >= 0
        assert http_flow.request.headers["x-request-id"] == "clients-own"
        assert not http_flow.response.stream

    run(settings, store, test)


@pytest.mark.parametrize("end", ["response", "error"])
def test_an_exchange_ends_once_and_is_logged_once(
    settings: Settings, store: Store, token: TokenRecord, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "addon")

    async def test(bench: Bench) -> None:
        http_flow = await bench.send(token=token.value, path="/v1/models?key=secret")
        exchange = bench.exchanges.get(http_flow.id)
        assert exchange is not None
        if end == "response":
            http_flow.response = make_response()
        else:
            http_flow.error = flow.Error("client disconnected")
        getattr(bench.gateway, end)(http_flow)
        bench.gateway.response(http_flow)
        bench.gateway.error(http_flow)
        assert exchange.grant is None
        assert len(bench.exchanges) == 0

    run(settings, store, test)
    lines = [record for record in caplog.records if record.name.startswith("addon")]
    assert len(lines) == 1
    shown = repr(vars(lines[0]))
    assert token.id in shown
    assert not any(secret in shown for secret in (token.value, API_KEY, "key=secret"))


def sources(store: Store) -> list[str | None]:
    with store.database.read():
        return [row.usage_source for row in Request.select().order_by(Request.id)]


async def ledger_says(store: Store, expected: list[str | None]) -> None:
    """Wait until the rows have these sources, in an event loop that goes on."""
    async with asyncio.timeout(DEADLINE):
        while sources(store) != expected:
            await asyncio.sleep(0.01)


def test_a_log_that_fails_leaves_no_request_open(
    settings: Settings,
    store: Store,
    token: TokenRecord,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    async def test(bench: Bench) -> None:
        http_flow = await bench.send(token=token.value)
        monkeypatch.setattr(access_log, "write", fail)
        bench.gateway.error(http_flow)
        await ledger_says(store, ["unknown"])

    run(settings, store, test)
    assert "no space left" in caplog.text


class Shown:
    """An addon that records the flows whose usage is noted outside of mitmproxy's hooks."""

    def __init__(self) -> None:
        self.flows: list[http.HTTPFlow] = []

    def usage_noted(self, flow: http.HTTPFlow) -> None:
        self.flows.append(flow)


async def end_by_response(bench: Bench, http_flow: http.HTTPFlow) -> None:
    bench.exchanges.get(http_flow.id).note_sent()  # type: ignore[union-attr]
    http_flow.response = make_response()
    await bench.gateway.responseheaders(http_flow)
    bench.gateway.response(http_flow)


async def end_by_error(bench: Bench, http_flow: http.HTTPFlow) -> None:
    http_flow.error = flow.Error("the upstream hung up")
    bench.gateway.error(http_flow)


async def end_by_close_of_websocket(bench: Bench, http_flow: http.HTTPFlow) -> None:
    http_flow.response = make_response(status=101)
    http_flow.websocket = WebSocketData()
    bench.gateway.websocket_end(http_flow)


async def end_by_client(bench: Bench, http_flow: http.HTTPFlow) -> None:
    bench.exchanges.get(http_flow.id).note_sent()  # type: ignore[union-attr]
    await bench.gateway.client_disconnected(http_flow.client_conn)


async def end_by_client_before_it_is_sent(bench: Bench, http_flow: http.HTTPFlow) -> None:
    await bench.gateway.client_disconnected(http_flow.client_conn)
    assert bench.exchanges.get(http_flow.id) is not None  # `error` may still come
    async with asyncio.timeout(DEADLINE):
        while len(bench.exchanges):
            await asyncio.sleep(0.01)


async def end_by_another_replay(bench: Bench, http_flow: http.HTTPFlow) -> None:
    bench.exchanges.finish(bench.exchanges.open(http_flow).flow.id)  # type: ignore[union-attr]


async def end_by_signal(bench: Bench, _: http.HTTPFlow) -> None:
    await bench.gateway.reverse_mode._finish_all()  # noqa: SLF001


async def end_by_removal(bench: Bench, _: http.HTTPFlow) -> None:
    bench.gateway.done()


@pytest.mark.parametrize(
    ("end", "is_shown"),
    [
        (end_by_response, False),  # mitmproxy's hooks show it
        (end_by_error, False),
        (end_by_close_of_websocket, False),
        (end_by_client, True),
        (end_by_client_before_it_is_sent, True),
        (end_by_another_replay, False),  # the replay shows it
        (end_by_signal, False),
        (end_by_removal, False),
    ],
)
def test_every_end_settles_once_and_logs_once(
    settings: Settings,
    store: Store,
    token: TokenRecord,
    end: Callable[[Bench, http.HTTPFlow], Coroutine[object, object, None]],
    is_shown: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settled: list[str] = []
    settle = Admission.settle

    def count(admission: Admission, settlement: Settlement) -> None:
        settled.append(settlement.opened.request_id)
        settle(admission, settlement)

    async def test(bench: Bench) -> None:
        bench.context.master.addons.add(shown := Shown())
        http_flow = await bench.send(token=token.value)
        exchange = bench.exchanges.get(http_flow.id)
        assert exchange is not None
        await end(bench, http_flow)
        bench.gateway.error(http_flow)
        bench.gateway.response(http_flow)
        assert len(bench.exchanges) == 0
        assert settled == [exchange.request_id]
        lines = [vars(record) for record in caplog.records if record.name == access_log.__name__]
        assert [line["token_id"] for line in lines if line["request_id"] == exchange.request_id] == [token.id]
        assert (exchange.grant, exchange.flow, exchange.session) == (None, None, None)
        assert shown.flows == ([http_flow] if is_shown else [])

    monkeypatch.setattr(Admission, "settle", count)
    monkeypatch.setattr(gateway, "_MARGIN", 0)
    caplog.set_level(logging.INFO, logger=access_log.__name__)
    run(changed(settings, store_timeout=0.1, connect_timeout=0.1), store, test)
    with store.database.read():
        assert [row.settled_at is not None for row in Request.select()] == [True]


def test_a_request_that_is_finished_while_the_store_decides_is_settled_and_not_sent(
    settings: Settings, store: Store, token: TokenRecord
) -> None:
    async def test(bench: Bench) -> None:
        http_flow = bench.flow(token=token.value)
        await bench.begin(http_flow)
        http_flow.request.timestamp_end = 1.0
        deciding = asyncio.ensure_future(bench.gateway.request(http_flow))
        await asyncio.sleep(0)
        await bench.gateway.reverse_mode._finish_all()  # noqa: SLF001
        await deciding
        assert code_of(http_flow) == "service_unavailable"
        await ledger_says(store, ["unknown"])

    run(settings, store, test)


def test_a_request_that_comes_as_the_process_ends_is_refused(
    settings: Settings, store: Store, token: TokenRecord
) -> None:
    async def test(bench: Bench) -> None:
        http_flow = bench.flow(token=token.value)
        exchange = await bench.begin(http_flow)
        await bench.gateway.reverse_mode._finish_all()  # noqa: SLF001
        await bench.gateway.request(http_flow)
        assert exchange.grant is None  # so the keyed layer gives it no connection, and answers with the refusal
        assert exchange.refusal is not None
        assert exchange.refusal.code == "service_unavailable"

    run(settings, store, test)


def test_a_flow_that_is_replayed_before_its_last_replay_has_ended_has_two_rows(
    settings: Settings, store: Store, token: TokenRecord
) -> None:
    async def test(bench: Bench) -> None:
        http_flow = await bench.send(token=token.value)
        http_flow.request.headers["Authorization"] = f"Bearer {token.value}"
        await bench.begin(http_flow)
        await bench.gateway.request(http_flow)
        await ledger_says(store, ["unknown", None])

    run(settings, store, test)


def test_a_client_that_is_gone_before_its_request_was_sent_has_it_refused(
    settings: Settings, store: Store, token: TokenRecord
) -> None:
    async def test(bench: Bench) -> None:
        waiting, sent = [await bench.send(token=token.value) for _ in range(2)]
        for http_flow in (waiting, sent):
            bench.exchanges.get(http_flow.id).client_id = "gone"  # type: ignore[union-attr]
        bench.exchanges.get(sent.id).note_sent()  # type: ignore[union-attr]
        client = tflow.tclient_conn()
        client.id = "gone"
        await bench.gateway.client_disconnected(client)
        assert bench.exchanges.get(sent.id) is None
        assert bench.exchanges.get(waiting.id).refusal is not None  # type: ignore[union-attr]
        await ledger_says(store, [None, "unknown"])

    run(settings, store, test)


async def decide(
    bench: Bench, http_flow: http.HTTPFlow, interrupt: Callable[[], Coroutine[object, object, None]]
) -> None:
    """Give a request to the hooks, with an interruption while the store decides."""
    await bench.begin(http_flow)
    http_flow.request.timestamp_end = 1.0
    deciding = asyncio.ensure_future(bench.gateway.request(http_flow))
    await asyncio.sleep(0)
    assert not deciding.done()
    await interrupt()
    await deciding
    bench.gateway.response(http_flow)


def test_a_request_that_a_stop_cuts_while_the_store_decides_is_logged_once(
    settings: Settings, store: Store, token: TokenRecord, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=access_log.__name__)

    async def test(bench: Bench) -> None:
        http_flow = bench.flow(token=token.value)
        await decide(bench, http_flow, bench.gateway.reverse_mode._finish_all)  # noqa: SLF001
        assert code_of(http_flow) == "service_unavailable"
        assert len(bench.exchanges) == 0
        await ledger_says(store, ["unknown"])

    run(settings, store, test)
    assert len([record for record in caplog.records if record.name == access_log.__name__]) == 1


def test_a_refusal_of_the_store_is_logged_although_the_client_has_gone(
    settings: Settings, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=access_log.__name__)

    async def test(bench: Bench) -> None:
        http_flow = bench.flow(token=UNKNOWN_TOKEN)
        await decide(bench, http_flow, lambda: bench.gateway.client_disconnected(http_flow.client_conn))

    run(settings, store, test)
    (line,) = [vars(record) for record in caplog.records if record.name == access_log.__name__]
    assert (line["status"], line["code"]) == (401, "invalid_token")


def test_a_replay_of_a_request_whose_client_has_gone_is_not_finished_in_its_place(
    settings: Settings, store: Store, token: TokenRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "_MARGIN", -(settings.store_timeout + settings.connect_timeout))  # finish at once

    async def test(bench: Bench) -> None:
        http_flow = await bench.send(token=token.value)
        await bench.gateway.client_disconnected(http_flow.client_conn)
        http_flow.error = flow.Error("gone")
        bench.gateway.error(http_flow)
        http_flow.error, http_flow.response, http_flow.is_replay = None, None, "request"
        again = await bench.begin(http_flow)
        await bench.gateway.request(http_flow)  # the timer runs, as this waits for the store
        assert again.grant is not None
        assert not again.finished

    run(settings, store, test)


def test_a_websocket_ends_with_its_close_and_not_with_its_handshake(
    settings: Settings, store: Store, token: TokenRecord
) -> None:
    async def test(bench: Bench) -> None:
        http_flow = await bench.send(*UPGRADE, token=token.value)
        http_flow.response = make_response(status=101)
        http_flow.websocket = WebSocketData()
        bench.gateway.response(http_flow)
        assert len(bench.exchanges) == 1
        bench.gateway.websocket_end(http_flow)
        assert len(bench.exchanges) == 0

    run(settings, store, test)


async def say(bench: Bench, http_flow: http.HTTPFlow, *, from_client: bool, **event: object) -> WebSocketMessage:
    assert http_flow.websocket is not None
    message = WebSocketMessage(Opcode.TEXT, from_client, json.dumps(event).encode())
    http_flow.websocket.messages.append(message)
    await bench.gateway.websocket_message(http_flow)
    return message


async def open_websocket(bench: Bench, token: TokenRecord, path: str) -> tuple[http.HTTPFlow, Exchange]:
    """Return the flow of a WebSocket that the upstream has opened, and its exchange."""
    http_flow = await bench.send(*UPGRADE, token=token.value, path=path)
    exchange = bench.exchanges.get(http_flow.id)
    assert exchange is not None
    exchange.note_sent()
    http_flow.response = make_response(status=101)
    await bench.gateway.responseheaders(http_flow)
    http_flow.websocket = WebSocketData()
    bench.gateway.response(http_flow)
    return http_flow, exchange


def test_each_further_response_over_a_websocket_has_a_row_and_a_line_in_the_log(
    settings: Settings, store: Store, token: TokenRecord, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(bench: Bench) -> None:
        http_flow, exchange = await open_websocket(bench, token, "/v1/realtime?model=gpt-realtime")
        for name in ("first", "second"):
            await say(bench, http_flow, from_client=True, type="response.create")
            await say(bench, http_flow, from_client=False, type="response.created", response={"id": name})
            done = {"id": name, "usage": {"input_tokens": 3, "output_tokens": 5}}
            await say(bench, http_flow, from_client=False, type="response.done", response=done)
        set_columns(store, "token", token.id, max_requests=1)
        refused = await say(bench, http_flow, from_client=True, type="response.create")
        bench.gateway.websocket_end(http_flow)
        late = await say(bench, http_flow, from_client=True, type="response.create")
        assert (refused.dropped, late.dropped) == (True, True)
        assert annotations.used(http_flow) == annotations.Used("gpt-realtime", 6, 10)
        assert exchange.session is None
        lines = [vars(record) for record in caplog.records if record.message == "request"]
        first = exchange.request_id
        assert [line.get("session_id") for line in lines] == [first, first, None]
        assert [line.get("code") for line in lines] == [None, "insufficient_quota", None]
        assert {line["token_id"] for line in lines} == {token.id}
        await ledger_says(store, ["observed", "observed"])
        with store.database.read():
            rows = {row.session_id: row for row in Request.select()}
        assert rows[None].id == first
        further = rows[first]
        assert (further.id, further.status, further.upstream_request_id) == (lines[0]["request_id"], 101, "second")
        assert (further.input_tokens, further.output_tokens, further.endpoint) == (3, 5, "/v1/realtime")

    caplog.set_level(logging.INFO, logger=access_log.__name__)
    run(settings, store, test)


def test_estimates_of_responses_over_a_websocket_are_added_up_on_its_flow(
    settings: Settings, store: Store, token: TokenRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def estimate(_: Estimator, request: EstimateRequest) -> Metered:
        units = {"input_tokens": 3, "output_tokens": 5}
        return Metered(Source.ESTIMATED, (Consumption(request.model, units),), model=request.model)

    async def test(bench: Bench) -> None:
        http_flow, _ = await open_websocket(bench, token, "/v1/responses")
        for name in ("first", "second"):
            await say(bench, http_flow, from_client=True, type="response.create", model="gpt-4o", input="Hi")
            await say(bench, http_flow, from_client=False, type="response.created", response={"id": name})
            place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
            await say(bench, http_flow, from_client=False, type="response.output_text.delta", delta="Hello", **place)
        bench.gateway.websocket_end(http_flow)
        assert annotations.used(http_flow) == annotations.Used()
        await ledger_says(store, ["estimated", "estimated"])
        assert annotations.used(http_flow) == annotations.Used("gpt-4o", 6, 10, is_estimated=True)

    monkeypatch.setattr(Estimator, "estimate", estimate)
    run(settings, store, test)


def test_a_response_without_an_exchange_is_unchanged(settings: Settings, store: Store) -> None:
    async def test(bench: Bench) -> None:
        http_flow = tflow.tflow(resp=True)
        before = http_flow.response.headers.copy()  # type: ignore[union-attr]
        await bench.gateway.responseheaders(http_flow)
        bench.gateway.response(http_flow)
        assert http_flow.response.headers == before  # type: ignore[union-attr]
        assert len(bench.exchanges) == 0

    run(settings, store, test)


def test_a_request_that_mitmproxy_rejects_is_masked_and_not_admitted(
    settings: Settings, store: Store, token: TokenRecord
) -> None:
    async def test(bench: Bench) -> None:
        http_flow = bench.flow(("Transfer-Encoding", "chunked"), token=token.value)
        http_flow.error = flow.Error("malformed")
        await bench.begin(http_flow)
        assert token.value not in repr(http_flow.get_state())
        bench.gateway.error(http_flow)
        assert len(bench.exchanges) == 0

    run(settings, store, test)
    assert Tokens(store).get(token.id).request_count == 0


def test_an_error_after_a_refusal_quotes_no_bytes(settings: Settings, store: Store) -> None:
    async def test(bench: Bench) -> None:
        http_flow = bench.flow(("Transfer-Encoding", "chunked"), token=UNKNOWN_TOKEN)
        await bench.begin(http_flow)
        http_flow.error = flow.Error(f"unexpected data: {f'Bearer {UNKNOWN_TOKEN}'.encode()!r}")
        bench.gateway.error(http_flow)
        assert http_flow.error.msg.endswith("(unexpected data: <bytes>)")
        assert UNKNOWN_TOKEN not in repr(http_flow.get_state())

    run(settings, store, test)
