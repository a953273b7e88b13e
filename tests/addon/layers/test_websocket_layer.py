import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.gateway.inprocess import CutAt, Proxy, run, running
from support.gateway.processes import DEADLINE
from support.stores.stores import foreign_lock, make_token
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode

from addon.exchange import Exchange
from addon.layers import backpressure, websocket_layer
from addon.patches import dispatch
from store.errors import TokenInactive
from store.management.tokens import Tokens


class Conversation(NamedTuple):
    """A WebSocket through the proxy, held at both ends."""

    client: ClientConnection
    upstream: ServerConnection
    proxy: Proxy

    async def ask(self, **fields: object) -> None:
        await self.client.send(event("response.create", **fields))


def event(kind: str, **fields: object) -> str:
    return json.dumps({"type": kind, **fields})


async def next_of(connection: ClientConnection | ServerConnection) -> dict[str, Any]:
    """Return the next event that comes."""
    found: dict[str, Any] = json.loads(await asyncio.wait_for(connection.recv(), DEADLINE))
    return found


@asynccontextmanager
async def conversation(tmp_path: Path, path: str = "/v1/realtime", **limits: int) -> AsyncIterator[Conversation]:
    """Open a WebSocket through the proxy. The upstream answers no close frame by itself: it hangs up."""
    opened: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def hold(upstream: ServerConnection) -> None:
        opened.put_nowait(upstream)
        await upstream.wait_closed()

    async with serve(hold, "127.0.0.1", 0, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with running(tmp_path, f"http://127.0.0.1:{port}") as proxy:
            token = make_token(proxy.store, **limits)
            headers = {"Authorization": f"Bearer {token.value}"}
            url = f"ws://127.0.0.1:{proxy.port}{path}"
            async with connect(url, additional_headers=headers, compression=None) as client:
                upstream = await asyncio.wait_for(opened.get(), DEADLINE)
                proxy.token = token
                yield Conversation(client, upstream, proxy)
            assert len(proxy.exchanges) == 0


async def ending(connection: ClientConnection | ServerConnection) -> tuple[list[str | bytes], int | None]:
    """Return all messages until the end, and the close code."""
    async with asyncio.timeout(DEADLINE):
        came = [message async for message in messages(connection)]
    return came, connection.close_code


async def messages(connection: ClientConnection | ServerConnection) -> AsyncIterator[str | bytes]:
    with suppress(ConnectionClosed):
        while True:
            yield await connection.recv()


@pytest.mark.parametrize("cut", ["client", "upstream"])
def test_a_websocket_that_is_cut_at_one_side_is_cut_at_the_other(tmp_path: Path, cut: str) -> None:
    async def main() -> None:
        async with conversation(tmp_path) as (client, upstream, _):
            one, other = (client, upstream) if cut == "client" else (upstream, client)
            await one.send("the last word")
            one.transport.close()
            assert await ending(other) == (["the last word"], CloseCode.ABNORMAL_CLOSURE)

    run(main())


@pytest.mark.parametrize("code", [CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.INTERNAL_ERROR, 4000])
def test_a_close_frame_passes(tmp_path: Path, code: int) -> None:
    async def main() -> None:
        async with conversation(tmp_path) as (client, upstream, _):
            await upstream.send("the last word")
            await upstream.close(code)
            assert await ending(client) == (["the last word"], code)

    run(main())


def test_a_refused_response_is_not_forwarded_and_answered_in_its_place(tmp_path: Path) -> None:
    async def main() -> None:
        async with conversation(tmp_path, max_requests=1) as talk:
            await talk.ask(event_id="first")
            await talk.client.send("before")
            await talk.ask(event_id="second")
            await talk.client.send("after")
            assert (await next_of(talk.upstream))["event_id"] == "first"
            assert [await talk.upstream.recv(), await talk.upstream.recv()] == ["before", "after"]
            refused = await next_of(talk.client)
            assert (refused["error"]["code"], refused["error"]["event_id"]) == ("insufficient_quota", "second")
            shown = talk.proxy.flows[0].websocket
            assert shown is not None
            assert [message.dropped for message in shown.messages] == [False, False, True, False, False]
            await talk.client.close()

    run(main())


def test_messages_after_a_refusal_that_closes_are_not_forwarded(tmp_path: Path) -> None:
    async def main() -> None:
        async with conversation(tmp_path) as talk:
            Tokens(talk.proxy.store).revoke(talk.proxy.token.id)
            with corked(talk.client):
                await talk.ask()
                await talk.client.send("behind it")
            assert (await next_of(talk.client))["error"]["code"] == "token_inactive"
            assert await ending(talk.upstream) == ([], CloseCode.NORMAL_CLOSURE)
            assert await ending(talk.client) == ([], CloseCode.POLICY_VIOLATION)

    run(main())


def test_messages_of_the_upstream_after_a_refusal_that_closes_are_not_forwarded(tmp_path: Path) -> None:
    async def main() -> None:
        async with conversation(tmp_path) as talk:
            Tokens(talk.proxy.store).revoke(talk.proxy.token.id)
            with corked(talk.upstream):
                await talk.upstream.send(event("response.created", response={"id": "a"}))
                await talk.upstream.send("behind it")
            assert (await next_of(talk.client))["error"]["code"] == "token_inactive"
            assert await ending(talk.client) == ([], CloseCode.POLICY_VIOLATION)

    run(main())


def test_a_closing_client_that_is_cut_is_no_longer_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with conversation(tmp_path) as talk:
            Tokens(talk.proxy.store).revoke(talk.proxy.token.id)
            talk.client.transport.pause_reading()
            await talk.ask()
            while len(talk.proxy.exchanges):  # its account ends with the close frame
                await asyncio.sleep(0.001)
            connections = talk.proxy.master.addons.get("proxyserver").connections
            assert connections
            talk.client.transport.abort()
            async with asyncio.timeout(websocket_layer.CLOSING_TIMEOUT / 2):
                while connections:
                    await asyncio.sleep(0.001)

    run(main())


def test_an_upstream_that_does_not_answer_a_close_frame_is_hung_up_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with conversation(tmp_path) as talk:
            Tokens(talk.proxy.store).revoke(talk.proxy.token.id)
            for side in (talk.upstream, talk.client):
                side.transport.pause_reading()
            await talk.ask()
            flow = talk.proxy.flows[0]
            async with asyncio.timeout(websocket_layer.CLOSING_TIMEOUT / 2):
                while flow.server_conn.connected:
                    await asyncio.sleep(0.001)
            assert flow.client_conn.connected
            for side in (talk.upstream, talk.client):
                side.transport.abort()

    run(main())


def test_a_client_that_closes_after_a_refusal_that_closes_is_hung_up_on_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with conversation(tmp_path) as talk:
            Tokens(talk.proxy.store).revoke(talk.proxy.token.id)
            with corked(talk.client):
                await talk.ask()
                closing = asyncio.create_task(talk.client.close())
                await asyncio.sleep(0)
            async with asyncio.timeout(websocket_layer.CLOSING_TIMEOUT / 2):
                await closing

    run(main())


@contextmanager
def corked(connection: ClientConnection | ServerConnection) -> Iterator[None]:
    """Send all writes of the block as one segment."""
    written: list[bytes] = []
    write, connection.transport.write = connection.transport.write, written.append  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        connection.transport.write = write  # type: ignore[method-assign]
        write(b"".join(written))


def test_a_responses_websocket_is_recognized_in_every_spelling_of_its_path(tmp_path: Path) -> None:
    async def main() -> None:
        async with conversation(tmp_path, "/v1/%72esponses", max_requests=1) as talk:
            for name in ("a", "b"):
                await talk.upstream.send(event("response.created", response={"id": name}))
            await talk.upstream.send(event("response.output_item.added", item={"id": "i"}))
            assert (await next_of(talk.client))["response"]["id"] == "a"
            assert (await next_of(talk.client))["error"]["code"] == "insufficient_quota"
            assert await ending(talk.client) == ([], CloseCode.POLICY_VIOLATION)
            assert await ending(talk.upstream) == ([], CloseCode.NORMAL_CLOSURE)

    run(main())


def test_messages_keep_their_order_while_a_response_is_admitted(tmp_path: Path) -> None:
    async def main() -> None:
        async with conversation(tmp_path) as talk:
            with foreign_lock(talk.proxy.store) as other:
                await talk.client.send("1")
                assert await talk.upstream.recv() == "1"
                await talk.ask()
                for number in range(2, 50):
                    await talk.client.send(str(number))
                await talk.upstream.send("during")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(talk.upstream.recv(), 0.1)
                other.execute("COMMIT")
            assert (await next_of(talk.upstream))["type"] == "response.create"
            assert [await talk.upstream.recv() for _ in range(2, 50)] == [str(number) for number in range(2, 50)]
            assert await talk.client.recv() == "during"
            await talk.client.close()

    run(main())


def test_a_client_that_goes_on_while_a_response_is_admitted_is_not_read(tmp_path: Path) -> None:
    async def main() -> None:
        async with conversation(tmp_path) as talk:
            piece, number = "x" * 100_000, 200
            with foreign_lock(talk.proxy.store) as other:
                await talk.ask()
                sending = asyncio.create_task(send_all(talk.client, piece, number))
                client = talk.proxy.flows[0].client_conn
                while client not in backpressure._held:  # noqa: SLF001 - it has no other sign
                    await asyncio.sleep(0.001)
                assert not sending.done()
                other.execute("COMMIT")
            assert (await next_of(talk.upstream))["type"] == "response.create"
            assert [await talk.upstream.recv() for _ in range(number)] == [piece] * number
            await sending
            assert client not in backpressure._held  # noqa: SLF001 - the same
            await talk.client.close()

    run(main())


async def send_all(client: ClientConnection, piece: str, number: int) -> None:
    for _ in range(number):
        await client.send(piece)


def test_a_revoked_token_closes_the_websocket_with_a_reason(tmp_path: Path) -> None:
    async def main() -> None:
        async with conversation(tmp_path) as talk:
            Tokens(talk.proxy.store).revoke(talk.proxy.token.id)
            await talk.ask(event_id="mine")
            with suppress(ConnectionClosed):
                await send_all(talk.client, "x" * 10_000, 500)  # a reset would lose the reason
            (error,), code = await ending(talk.client)
            assert json.loads(error)["error"]["code"] == "token_inactive"
            assert (code, talk.client.close_reason) == (CloseCode.POLICY_VIOLATION, "The token has been revoked.")
            assert await ending(talk.upstream) == ([], CloseCode.NORMAL_CLOSURE)
            flow = talk.proxy.flows[0]
            assert flow.websocket is not None
            assert flow.websocket.timestamp_end is not None
            assert (flow.websocket.close_code, flow.websocket.closed_by_client) == (CloseCode.POLICY_VIOLATION, False)
            assert flow.websocket.close_reason == talk.client.close_reason
            assert not flow.live

    run(main())


@pytest.mark.parametrize("end", ["client", "upstream"])
def test_a_side_that_is_cut_while_a_response_is_admitted_ends_the_other(tmp_path: Path, end: str) -> None:
    async def main() -> None:
        async with conversation(tmp_path) as talk:
            with foreign_lock(talk.proxy.store) as other:
                await talk.ask()
                while (shown := talk.proxy.flows[0].websocket) is None or not shown.messages:
                    await asyncio.sleep(0)
                one, rest = (talk.client, talk.upstream) if end == "client" else (talk.upstream, talk.client)
                one.transport.abort()
                other.execute("COMMIT")
            _, code = await ending(rest)
            assert code == CloseCode.ABNORMAL_CLOSURE

    run(main())


def test_a_client_that_does_not_answer_a_close_frame_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_layer, "CLOSING_TIMEOUT", 0.1)

    async def main() -> None:
        async with conversation(tmp_path) as talk:
            Tokens(talk.proxy.store).revoke(talk.proxy.token.id)
            talk.client.transport.pause_reading()
            await talk.ask()
            await asyncio.wait_for(talk.upstream.wait_closed(), DEADLINE)
            proxyserver = talk.proxy.master.addons.get("proxyserver")
            while proxyserver.connections:
                await asyncio.sleep(0.01)
            talk.client.transport.abort()

    run(main())


def test_a_response_that_the_upstream_begins_beyond_the_limit_is_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        async with conversation(tmp_path, max_requests=1) as talk:
            for name in ("a", "b"):
                await talk.upstream.send(event("response.created", response={"id": name}))
            await talk.upstream.send(event("response.output_audio.delta", response_id="b", delta="AAAA"))
            assert (await next_of(talk.client))["response"]["id"] == "a"
            assert (await next_of(talk.client))["error"]["code"] == "insufficient_quota"
            cancel = await next_of(talk.upstream)
            assert (cancel["type"], cancel["response_id"]) == ("response.cancel", "b")
            await talk.upstream.send(event("response.done", response={"id": "b"}))
            await talk.upstream.send("the last word")
            assert await talk.client.recv() == "the last word"
            await talk.client.close()

    run(main())


def exchange_of(talk: Conversation) -> Exchange:
    (flow_id,) = talk.proxy.exchanges.all()
    found = talk.proxy.exchanges.get(flow_id)
    assert found is not None
    return found


def test_a_websocket_that_is_cut_is_closed_at_once_without_any_message(tmp_path: Path) -> None:
    async def main() -> None:
        async with conversation(tmp_path) as talk:
            exchange_of(talk).cut(TokenInactive())
            async with asyncio.timeout(websocket_layer.CLOSING_TIMEOUT / 2):  # the client's close frame is read
                (error,), code = await ending(talk.client)
                await talk.client.wait_closed()
                connections = talk.proxy.master.addons.get("proxyserver").connections
                while connections:
                    await asyncio.sleep(0.001)
            assert json.loads(error)["error"]["code"] == "token_inactive"
            assert (code, talk.client.close_reason) == (CloseCode.POLICY_VIOLATION, "The token has been revoked.")
            assert await ending(talk.upstream) == ([], CloseCode.NORMAL_CLOSURE)
            assert talk.proxy.flows[0].websocket is not None
            assert talk.proxy.flows[0].websocket.close_code == CloseCode.POLICY_VIOLATION

    run(main())


def test_a_websocket_that_is_cut_while_a_response_is_admitted_gets_one_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with conversation(tmp_path) as talk:
            with foreign_lock(talk.proxy.store) as other:
                await talk.ask()
                while (shown := talk.proxy.flows[0].websocket) is None or not shown.messages:
                    await asyncio.sleep(0)
                exchange_of(talk).cut(TokenInactive())
                await asyncio.sleep(0.05)
                other.execute("COMMIT")
            (error,), code = await ending(talk.client)
            assert (json.loads(error)["error"]["code"], code) == ("token_inactive", CloseCode.POLICY_VIOLATION)
            assert await ending(talk.upstream) == ([], CloseCode.NORMAL_CLOSURE)

    run(main())


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_a_cut_at_the_end_of_a_websocket_comes_too_late(tmp_path: Path, side: str) -> None:
    async def main() -> None:
        async with conversation(tmp_path) as talk:
            found = exchange_of(talk)
            stop = found.stop
            await (talk.client if side == "client" else talk.upstream).close()
            while len(talk.proxy.exchanges):
                await asyncio.sleep(0.001)
            found.cut(TokenInactive())
            stop(None)  # as if it had been on its way
            await ending(talk.client)

    run(main())


@pytest.mark.parametrize("is_first", [True, False], ids=["before the gateway", "after it"])
@pytest.mark.parametrize("hook", ["request", "responseheaders", "response", "websocket_start"])
def test_a_websocket_that_is_cut_while_it_opens_is_refused_or_closed(tmp_path: Path, hook: str, is_first: bool) -> None:
    async def hold(upstream: ServerConnection) -> None:
        await upstream.wait_closed()

    async def main() -> None:
        addon = CutAt(hook)
        async with serve(hold, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with running(tmp_path, f"http://127.0.0.1:{port}", addons=[] if is_first else [addon]) as proxy:
                if is_first:
                    dispatch.add_first(proxy.master, addon)
                addon.exchanges = proxy.exchanges
                headers, url = {"Authorization": f"Bearer {proxy.token.value}"}, f"ws://127.0.0.1:{proxy.port}"
                try:
                    async with connect(f"{url}/v1/realtime", additional_headers=headers) as client:
                        (error,), code = await ending(client)
                        found = json.loads(error)["error"]["code"], int(code or 0)
                except InvalidStatus as refused:
                    found = json.loads(refused.response.body or b"")["code"], refused.response.status_code
                assert found in {("token_inactive", 401), ("token_inactive", CloseCode.POLICY_VIOLATION)}
                while len(proxy.exchanges):
                    await asyncio.sleep(0.001)

    run(main())
