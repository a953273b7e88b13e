from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http
from mitmproxy.addons.clientplayback import ClientPlayback
from mitmproxy.addons.next_layer import NextLayer as MitmproxysNextLayer
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Client
from mitmproxy.options import Options
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import ServerTLSLayer, modes
from mitmproxy.proxy.layers.http import HttpLayer
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import taddons
from support.gateway.inprocess import CLOSE, Proxy, run, running
from support.stores.stores import API_KEY, UNKNOWN_TOKEN
from support.upstreams.upstreams import OK, Conversation, RawUpstream, answer_all

from addon.exchange import Exchanges
from addon.layers.client_tls import ClientTls
from addon.layers.install import put_keyed_layer
from addon.layers.keyed_layer import KeyedLayer
from store.management.tokens import Tokens
from store.runtime.settings import Settings

type Edit = Callable[[http.HTTPFlow], None]

PLAIN = b"GET /v1/models HTTP/1.1\r\n"
TLS = bytes.fromhex("1603010200010001fc0303")


@pytest.fixture
def settings() -> Settings:
    return Settings(_env_file=None)


def ask(mode: str, data: bytes) -> layer.NextLayer:
    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), proxy_mode=ProxyMode.parse(mode))
    options = Options()
    Proxyserver().load(options)
    context = Context(client, options)
    top = modes.ReverseProxy if mode.startswith("reverse:") else modes.HttpProxy
    top(context)
    asked = layer.NextLayer(context)
    asked.events.append(events.DataReceived(client, data))
    return asked


@pytest.mark.parametrize(
    ("scheme", "data", "expected"),
    [
        ("http", PLAIN, [KeyedLayer]),
        ("http", TLS, [ClientTls, KeyedLayer]),
        ("https", PLAIN, [ServerTLSLayer, KeyedLayer]),
        ("https", TLS, [ServerTLSLayer, ClientTls, KeyedLayer]),
    ],
)
@pytest.mark.parametrize("order", ["alone", "before mitmproxy's", "after mitmproxy's"])
def test_the_keyed_layer_stands_above_the_tls_layers(
    settings: Settings, scheme: str, data: bytes, expected: list[type[layer.Layer]], order: str
) -> None:
    with taddons.context(MitmproxysNextLayer()) as context:
        mitmproxys = context.master.addons.get("nextlayer")
        asked = ask(f"reverse:{scheme}://upstream:1", data)
        if order == "after mitmproxy's":
            mitmproxys.next_layer(asked)
            assert isinstance(asked.context.layers[-1], HttpLayer)
        put_keyed_layer(asked, Exchanges(lambda *_: None), settings)
        decided = asked.layer
        if order == "before mitmproxy's":
            mitmproxys.next_layer(asked)
    assert asked.layer is decided
    assert [type(put) for put in asked.context.layers] == [modes.ReverseProxy, *expected]
    assert asked.layer is asked.context.layers[1]


def test_a_connection_in_another_mode_keeps_its_layers(settings: Settings) -> None:
    asked = ask("regular", PLAIN)
    put_keyed_layer(asked, Exchanges(lambda *_: None), settings)
    assert asked.layer is None
    assert [type(put) for put in asked.context.layers] == [modes.HttpProxy]


def running_with_replays(folder: Path, upstream_url: str, **values: Any) -> AbstractAsyncContextManager[Proxy]:
    return running(folder, upstream_url, addons=[ClientPlayback()], **values)


def nothing(_: http.HTTPFlow) -> None:
    """Leave a flow as it is."""


async def replayed(proxy: Proxy, edit: Edit = nothing, *, body: str = "") -> http.HTTPFlow:
    """Send a request, edit its flow as an operator does, and replay it."""
    await proxy.ask(proxy.request("POST /v1/x", body=body))
    flow = await proxy.end_of_flow()
    edit(flow)
    proxy.master.commands.call("replay.client", [flow])
    return await proxy.end_of_flow()


def count(proxy: Proxy) -> int:
    return Tokens(proxy.store).get(proxy.token.id).request_count


def status(flow: http.HTTPFlow) -> int | None:
    return flow.response.status_code if flow.response else None


@pytest.mark.parametrize("body", ["", "hello"])
def test_a_replay_is_admitted_and_counted_by_the_same_token(tmp_path: Path, body: str) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            upstream.answer = answer
            async with running_with_replays(tmp_path, upstream.url) as proxy:
                flow = await replayed(proxy, body=body)
                assert (status(flow), count(proxy)) == (200, 2)
                assert flow.request.headers["authorization"] == "Bearer ***"
                assert API_KEY not in repr(flow.get_state())
                assert len(proxy.exchanges) == 0
            first, second = (conversation.received for conversation in upstream.conversations)
            assert first == second
            assert f"Bearer {API_KEY}\r\n".encode() in second

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.read_body(len(body))
        conversation.send(OK)

    run(main())


@pytest.mark.parametrize("header", ["x-api-key: {}", "API-Key: sk-{}", "x-goog-api-key: {}"])
def test_a_replay_is_admitted_by_a_token_from_another_header(tmp_path: Path, header: str) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running_with_replays(tmp_path, upstream.url) as proxy:
                token = proxy.token.value
                line = f"GET /v1/files?a=%20&key={token}&***&b HTTP/1.1\r\n"
                await proxy.ask(f"{line}Host: x\r\n{header.format(token)}\r\n{CLOSE}\r\n")
                flow = await proxy.end_of_flow()
                proxy.master.commands.call("replay.client", [flow])
                flow = await proxy.end_of_flow()
                assert (status(flow), count(proxy)) == (200, 2)
                assert flow.request.path == "/v1/files?a=%20&key=***token***&***&b"
                assert token not in repr(flow.get_state())
            first, second = (conversation.received for conversation in upstream.conversations)
            assert first == second
            assert first.startswith(b"GET /v1/files?a=%20&***&b HTTP/1.1\r\n")
            assert b"api-key" not in first.lower()

    run(main())


def test_a_replay_of_a_revoked_token_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running_with_replays(tmp_path, upstream.url) as proxy:
                flow = await replayed(proxy, lambda _: Tokens(proxy.store).revoke(proxy.token.id))
                assert (status(flow), count(proxy)) == (401, 1)
            assert len(upstream.conversations) == 1

    run(main())


def test_a_token_written_into_the_flow_is_used_instead(tmp_path: Path) -> None:
    def unknown(flow: http.HTTPFlow) -> None:
        flow.request.headers["authorization"] = f"Bearer {UNKNOWN_TOKEN}"

    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running_with_replays(tmp_path, upstream.url) as proxy:
                flow = await replayed(proxy, unknown)
                assert (status(flow), count(proxy)) == (401, 1)

    run(main())


def test_a_replay_of_a_flow_without_a_token_id_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running_with_replays(tmp_path, upstream.url) as proxy:
                flow = await replayed(proxy, lambda flow: flow.metadata.clear())
                assert (status(flow), count(proxy)) == (401, 1)
            assert len(upstream.conversations) == 1

    run(main())


def set_host(flow: http.HTTPFlow, port: int) -> None:
    flow.request.host, flow.request.port = "localhost", port


def set_port(flow: http.HTTPFlow, port: int) -> None:
    flow.request.port = port


def set_scheme(flow: http.HTTPFlow, _: int) -> None:
    flow.request.scheme = "https"


@pytest.mark.parametrize("edit", [set_host, set_port, set_scheme])
def test_a_replay_to_another_destination_is_refused_without_a_connection(
    tmp_path: Path, edit: Callable[[http.HTTPFlow, int], None]
) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream, RawUpstream(answer_all()) as attacker:
            async with running_with_replays(tmp_path, upstream.url) as proxy:
                flow = await replayed(proxy, lambda flow: edit(flow, attacker.port))
                assert (status(flow), count(proxy)) == (403, 1)
                assert len(proxy.exchanges) == 0
            assert (len(upstream.conversations), attacker.conversations) == (1, [])

    run(main())


def test_a_replay_to_a_reserved_endpoint_is_refused_and_not_counted(tmp_path: Path) -> None:
    def reserved(flow: http.HTTPFlow) -> None:
        flow.request.path = "/v1/realtime%2Fclient_secrets"

    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running_with_replays(tmp_path, upstream.url) as proxy:
                flow = await replayed(proxy, reserved)
                assert (status(flow), count(proxy)) == (403, 1)
            assert len(upstream.conversations) == 1

    run(main())


def test_a_replay_ends_when_the_upstream_does_not_answer(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:

            def silence(_: http.HTTPFlow) -> None:
                upstream.answer = Conversation.wait_until_closed

            async with running_with_replays(tmp_path, upstream.url, first_byte_timeout=0.1) as proxy:
                flow = await replayed(proxy, silence)
                assert flow.error is not None
                assert "in time" in flow.error.msg
                assert count(proxy) == 2
                assert len(proxy.exchanges) == 0

    run(main())
