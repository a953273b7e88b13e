import asyncio
import base64
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http
from mitmproxy.addons.clientplayback import ClientPlayback
from support.clients.http2 import Http2Client
from support.gateway.inprocess import (
    CLOSE,
    Proxy,
    assert_json_error,
    head_and_body,
    read_answer,
    run,
    running,
)
from support.gateway.processes import DEADLINE, free_port
from support.network.certificates import Authority
from support.network.forward_proxy import ForwardProxy
from support.stores.stores import API_KEY
from support.upstreams.upstreams import OK, Conversation, RawUpstream, answer_all
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

pytestmark = pytest.mark.paths("on", "off")

HOST = "upstream.test"
"""A name that resolves nowhere (RFC 6761): only the forward proxy knows the way to it."""
HTTP, HTTPS = f"http://{HOST}", f"https://{HOST}"
KEY = f"authorization: Bearer {API_KEY}\r\n".encode()


@pytest.fixture
def upstream() -> Iterator[RawUpstream]:
    with RawUpstream(answer_all()) as upstream:
        yield upstream


@pytest.fixture
def forward(upstream: RawUpstream) -> Iterator[ForwardProxy]:
    with ForwardProxy({f"{HOST}:80": upstream.port}) as forward:
        yield forward


async def is_answered(proxy: Proxy) -> bool:
    return head_and_body(await proxy.ask(proxy.request()))[0] == 200


def test_an_http_upstream_is_reached_through_a_tunnel(
    tmp_path: Path, upstream: RawUpstream, forward: ForwardProxy
) -> None:
    async def main() -> None:
        async with running(tmp_path, HTTP, http_proxy=f"http://127.0.0.1:{forward.port}") as proxy:
            assert await is_answered(proxy)
            assert proxy.flows[0].server_conn.address == (HOST, 80)
        assert forward.heads == [f"CONNECT {HOST}:80 HTTP/1.1\r\nHost: {HOST}:80\r\n\r\n".encode()]
        assert upstream.received().startswith(b"GET /v1/models HTTP/1.1\r\n")
        assert KEY in upstream.received()

    run(main())


def test_tls_with_the_upstream_goes_through_the_tunnel(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def main() -> None:
        with RawUpstream(answer_all(), tls=authority.server(HOST)) as upstream:
            hosts = {f"{HOST}:443": upstream.port}
            with ForwardProxy(hosts) as forward, ForwardProxy(hosts) as other:
                ways: dict[str, Any] = {
                    "https_proxy": f"127.0.0.1:{forward.port}",
                    "http_proxy": f"127.0.0.1:{other.port}",
                }
                async with running(tmp_path, HTTPS, **ways, upstream_ca_file=authority.file) as proxy:
                    assert await is_answered(proxy)
                async with running(tmp_path, HTTPS, **ways) as proxy:
                    assert_json_error(await proxy.ask(proxy.request()), 503, "service_unavailable")
                assert forward.asked == [f"CONNECT {HOST}:443 HTTP/1.1"] * 2
                assert other.asked == []
            assert upstream.received().count(KEY) == 1

    run(main())


def test_a_proxy_may_have_tls_itself(tmp_path: Path, upstream: RawUpstream) -> None:
    """A proxy whose certificate no trusted authority has signed gets no request."""
    authority = Authority(tmp_path)
    hosts = {f"{HOST}:80": upstream.port}

    async def main() -> None:
        with ForwardProxy(hosts, tls=authority.server("localhost")) as forward:
            way = f"https://localhost:{forward.port}"
            async with running(tmp_path, HTTP, http_proxy=way, upstream_ca_file=authority.file) as proxy:
                assert await is_answered(proxy)
            async with running(tmp_path, HTTP, http_proxy=way) as proxy:
                assert_json_error(await proxy.ask(proxy.request()), 503, "service_unavailable")
                assert f"the proxy localhost:{forward.port} (HTTP_PROXY) cannot be reached" in shown(proxy.flows[0])
            assert forward.asked == [f"CONNECT {HOST}:80 HTTP/1.1"]

    run(main())


def test_a_response_that_ends_with_its_connection_comes_over_tls_to_the_proxy(tmp_path: Path) -> None:
    """It begins before the request has ended. mitmproxy then closes one half of the connection, which TLS cannot."""
    authority, size = Authority(tmp_path), 2 * 1024 * 1024
    ended = threading.Event()

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 200 OK\r\n\r\nbegun")
        conversation.read_body(size)
        assert ended.wait(DEADLINE)
        conversation.send(b", ended")

    async def main() -> None:
        with (
            RawUpstream(answer) as upstream,
            ForwardProxy({f"{HOST}:80": upstream.port}, tls=authority.server("localhost")) as forward,
        ):
            way = f"https://localhost:{forward.port}"
            async with (
                running(tmp_path, HTTP, http_proxy=way, upstream_ca_file=authority.file) as proxy,
                proxy.connection() as (reader, writer),
            ):
                writer.write(proxy.request("POST /v1/x", headers=f"{CLOSE}Content-Length: {size}\r\n").encode())
                await asyncio.wait_for(reader.readuntil(b"begun"), DEADLINE)
                writer.write(b"x" * size)
                ended.set()
                assert await asyncio.wait_for(reader.read(), DEADLINE) == b", ended"

    run(main())


def shown(flow: http.HTTPFlow) -> str:
    """Return the error that an operator sees of a failed request."""
    return flow.error.msg if flow.error else ""


def test_credentials_go_to_the_proxy_only(
    tmp_path: Path, upstream: RawUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        with ForwardProxy({f"{HOST}:80": upstream.port}, credentials="me:p@ss w") as forward:
            address = f"127.0.0.1:{forward.port}"
            async with running(tmp_path, HTTP, http_proxy=f"http://me:p%40ss%20w@{address}") as proxy:
                assert await is_answered(proxy)
                states = [proxy.flows[0].get_state()]
            async with running(tmp_path, HTTP, http_proxy=f"http://me:wrong@{address}") as proxy:
                assert_json_error(await proxy.ask(proxy.request()), 503, "service_unavailable")
                states.append(proxy.flows[0].get_state())
                assert f"the proxy {address} (HTTP_PROXY) wants other credentials (407)" in shown(proxy.flows[0])
        assert len(forward.heads) == 2
        assert b"proxy-authorization" not in upstream.received().lower()
        secrets = ["p@ss", "p%40ss", "wrong"] + [
            base64.b64encode(text).decode() for text in (b"me:p@ss w", b"me:wrong")
        ]
        for text in (repr(states), caplog.text):
            assert not [secret for secret in secrets if secret in text]

    run(main())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "refused a tunnel to the upstream with status 403"),
        (b"HTTP/1.0 502 Bad Gateway\r\n\r\n", "refused a tunnel to the upstream with status 502"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://login.test/\r\n\r\n", "with status 302"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "with status 101"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 +200 x\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000, "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n", "hung up before it opened a tunnel"),
        (b"", "hung up before it opened a tunnel"),
    ],
)
def test_a_proxy_that_opens_no_tunnel_is_named_and_tried_again(
    tmp_path: Path, upstream: RawUpstream, forward: ForwardProxy, answer: bytes, reason: str
) -> None:
    async def main() -> None:
        async with (
            running(tmp_path, HTTP, http_proxy=f"http://127.0.0.1:{forward.port}") as proxy,
            proxy.connection() as (reader, writer),
        ):
            forward.instead = answer
            writer.write(proxy.request(headers="").encode())
            assert_json_error(await asyncio.wait_for(read_answer(reader), DEADLINE), 503, "service_unavailable")
            text = shown(proxy.flows[0])
            assert f"the proxy 127.0.0.1:{forward.port} (HTTP_PROXY) " in text
            assert text.endswith(f"{reason})")
            forward.instead = None
            writer.write(proxy.request(headers="").encode())
            assert (await asyncio.wait_for(reader.readuntil(b"{}"), DEADLINE)).startswith(b"HTTP/1.1 200 ")
        assert upstream.received().count(KEY) == 1

    run(main())


def test_a_silent_proxy_is_given_up_in_time(tmp_path: Path, forward: ForwardProxy) -> None:
    forward.is_silent = True

    async def main() -> None:
        way = f"http://127.0.0.1:{forward.port}"
        async with running(tmp_path, HTTP, http_proxy=way, connect_timeout=0.3) as proxy:
            assert_json_error(await proxy.ask(proxy.request()), 503, "service_unavailable")
            assert f"the proxy 127.0.0.1:{forward.port} (HTTP_PROXY) opened no tunnel in time" in shown(proxy.flows[0])
            forward.is_silent = False
            assert await is_answered(proxy)

    run(main())


def test_a_silent_upstream_in_a_tunnel_is_not_reported_as_the_proxys_fault(tmp_path: Path) -> None:
    async def main() -> None:
        with (
            RawUpstream(Conversation.wait_until_closed) as silent,
            ForwardProxy({f"{HOST}:443": silent.port}) as forward,
        ):
            way = f"http://127.0.0.1:{forward.port}"
            async with running(tmp_path, HTTPS, https_proxy=way, connect_timeout=0.3) as proxy:
                assert_json_error(await proxy.ask(proxy.request()), 503, "service_unavailable")
                assert shown(proxy.flows[0]).endswith("(no connection in time)")

    run(main())


def test_a_proxy_that_comes_back_is_used_again(tmp_path: Path, upstream: RawUpstream) -> None:
    port = free_port()

    async def main() -> None:
        async with running(tmp_path, HTTP, http_proxy=f"http://127.0.0.1:{port}") as proxy:
            assert_json_error(await proxy.ask(proxy.request()), 503, "service_unavailable")
            assert f"the proxy 127.0.0.1:{port} (HTTP_PROXY) cannot be reached: " in shown(proxy.flows[0])
            with ForwardProxy({f"{HOST}:80": upstream.port}, port=port):
                assert await is_answered(proxy)

    run(main())


def test_one_line_of_the_log_names_the_proxy(
    tmp_path: Path, forward: ForwardProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    forward.instead = b"HTTP/1.1 403 Forbidden\r\n\r\n"

    async def main() -> None:
        async with running(tmp_path, HTTP, http_proxy=f"http://127.0.0.1:{forward.port}") as proxy:
            await proxy.ask(proxy.request())
        (record,) = [record for record in caplog.records if record.name == "addon.access_log"]
        assert vars(record)["error"] == (
            "Service temporarily unavailable (the proxy "
            f"127.0.0.1:{forward.port} (HTTP_PROXY) refused a tunnel to the upstream with status 403)"
        )

    run(main())


@pytest.mark.parametrize("way", ["loopback", "no_proxy", "the other proxy"])
def test_a_destination_without_a_proxy_is_connected_directly(
    tmp_path: Path, upstream: RawUpstream, forward: ForwardProxy, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://127.0.0.1:{forward.port}"
    values: dict[str, Any] = {"https_proxy": address} if way == "the other proxy" else {"http_proxy": address}
    url = upstream.url
    if way != "loopback":
        url = f"http://{HOST}:{upstream.port}"
        values["no_proxy"] = "" if way == "the other proxy" else HOST
        find = asyncio.BaseEventLoop.getaddrinfo

        async def found(self: asyncio.BaseEventLoop, host: str, *where: object, **how: object) -> object:
            assert host in {HOST, "127.0.0.1"}
            return await find(self, "127.0.0.1", *where, **how)  # type: ignore[arg-type]

        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", found)

    async def main() -> None:
        async with running(tmp_path, url, **values) as proxy:
            assert await is_answered(proxy)
        assert forward.heads == []

    run(main())


def test_requests_of_a_client_share_a_tunnel(tmp_path: Path, upstream: RawUpstream, forward: ForwardProxy) -> None:
    async def main() -> None:
        async with (
            running(tmp_path, HTTP, http_proxy=f"http://127.0.0.1:{forward.port}") as proxy,
            proxy.connection() as (reader, writer),
        ):
            for _ in range(3):
                writer.write(proxy.request(headers="").encode())
                await asyncio.wait_for(reader.readuntil(b"{}"), DEADLINE)
        assert len(forward.heads) == len(upstream.conversations) == 1

    run(main())


def test_http2_requests_go_through_tunnels(tmp_path: Path, upstream: RawUpstream, forward: ForwardProxy) -> None:
    async def main() -> None:
        async with (
            running(tmp_path, HTTP, http_proxy=f"http://127.0.0.1:{forward.port}") as proxy,
            Http2Client.connect(proxy.port) as client,
        ):
            streams = [client.get("/v1/models", proxy.token.value) for _ in range(20)]
            assert [await client.status(stream) for stream in streams] == [200] * 20
        assert upstream.received().count(KEY) == 20

    run(main())


def test_an_upload_is_streamed_through_a_tunnel(tmp_path: Path) -> None:
    size = 8 * 1024 * 1024

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.read_body(size)
        conversation.send(OK)

    async def main() -> None:
        with RawUpstream(answer) as upstream, ForwardProxy({f"{HOST}:80": upstream.port}) as forward:
            async with running(tmp_path, HTTP, http_proxy=f"http://127.0.0.1:{forward.port}") as proxy:
                assert head_and_body(await proxy.ask(proxy.request("POST /v1/x", body="x" * size)))[0] == 200
            assert upstream.received().endswith(b"x" * size)

    run(main())


@contextlib.asynccontextmanager
async def echoing() -> AsyncIterator[int]:
    """Run an upstream that echoes every message over a WebSocket."""

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0) as server:
        yield next(iter(server.sockets)).getsockname()[1]


def test_a_websocket_goes_through_a_tunnel(tmp_path: Path) -> None:
    async def main() -> None:
        async with echoing() as port:
            with ForwardProxy({f"{HOST}:80": port}) as forward:
                async with running(tmp_path, HTTP, http_proxy=f"http://127.0.0.1:{forward.port}") as proxy:
                    headers = {"Authorization": f"Bearer {proxy.token.value}"}
                    url = f"ws://127.0.0.1:{proxy.port}/v1/realtime"
                    async with connect(url, additional_headers=headers, proxy=None) as client:
                        await client.send("sent")
                        assert await asyncio.wait_for(client.recv(), DEADLINE) == "sent"
                assert forward.asked == [f"CONNECT {HOST}:80 HTTP/1.1"]

    run(main())


@pytest.mark.parametrize("host", [HOST, "other.test"])
def test_a_replay_goes_through_a_tunnel_and_to_no_other_host(
    tmp_path: Path, upstream: RawUpstream, forward: ForwardProxy, host: str
) -> None:
    forward.hosts = {f"{name}:80": upstream.port for name in (HOST, "other.test")}

    async def main() -> None:
        http_proxy = f"http://127.0.0.1:{forward.port}"
        async with running(tmp_path, HTTP, addons=[ClientPlayback()], http_proxy=http_proxy) as proxy:
            await proxy.ask(proxy.request())
            flow = await proxy.end_of_flow()
            flow.request.host = host
            proxy.master.commands.call("replay.client", [flow])
            flow = await proxy.end_of_flow()
            assert flow.response is not None
            assert flow.response.status_code == (200 if host == HOST else 403)
        sent = 2 if host == HOST else 1
        assert forward.asked == [f"CONNECT {HOST}:80 HTTP/1.1"] * sent
        assert upstream.received().count(KEY) == sent

    run(main())
