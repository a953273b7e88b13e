import asyncio
import contextlib
import socket
from pathlib import Path

import pytest
from mitmproxy import http
from support.clients.http2 import Http2Client
from support.gateway.inprocess import HoldConnections, assert_json_error, head_and_body, run, running
from support.gateway.processes import DEADLINE
from support.upstreams.echo_upstream import EchoUpstream
from support.upstreams.upstreams import Conversation, RawUpstream, answer_all

from store.network.sockets import IDLE

UPLOAD, MORE = 1_500_000, 300_000
"""Bytes of an upload that is streamed, and of further requests behind it that are read while its upstream hangs up."""


def test_a_connection_that_is_cancelled_while_data_waits_is_closed(tmp_path: Path) -> None:
    """More than one read's worth comes while the first is refused."""

    async def test() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                writer.write(b"GET nonsense HTTP/1.1\r\n\r\n" + b"A" * 66_000)
                assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
                with contextlib.suppress(ConnectionResetError):
                    await asyncio.wait_for(reader.read(), DEADLINE)

    asyncio.run(test())


def test_a_connection_whose_writing_fails_twice_is_reported(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            EchoUpstream.start() as upstream,
            running(tmp_path, upstream.url, plain_path="off") as proxy,
            proxy.connection() as (reader, writer),
        ):
            head = proxy.request("PUT /v1/early-close/n1", headers=f"Content-Length: {UPLOAD}\r\n")
            writer.write(head.encode() + bytes(UPLOAD + MORE))
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE)
            assert head_and_body(answer)[0] in {200, 503}

    run(main())


def test_an_http2_client_gets_an_upstream_connection_for_each_request(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(Conversation.wait_until_closed) as upstream:
            async with running(tmp_path, upstream.url) as proxy, Http2Client.connect(proxy.port) as client:
                for _ in range(20):
                    client.get("/v1/slow", proxy.token.value)
                while len(upstream.conversations) < 20:
                    await asyncio.sleep(0.01)

    run(main())


@pytest.mark.paths("on", "off")
@pytest.mark.parametrize("hook", ["server_connect", "server_connected"])
def test_an_attempt_that_is_cancelled_while_a_hook_runs_is_answered(tmp_path: Path, hook: str) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url, connect_timeout=0.2) as proxy:
                hold = HoldConnections()
                proxy.master.addons.add(type("Hold", (), {hook: staticmethod(hold.server_connect)})())
                assert_json_error(await proxy.ask(proxy.request()), 503, "service_unavailable")
                assert len(proxy.exchanges) == 0
            assert upstream.received() == b""

    run(main())


@pytest.mark.paths("off")
def test_idle_connections_are_probed_on_both_sides(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                writer.write(proxy.request(headers="").encode())
                await asyncio.wait_for(reader.readuntil(b"{}"), DEADLINE)
                transports = proxy.handler.transports.values()
                writers = [one.writer for one in transports if isinstance(one.writer, asyncio.StreamWriter)]
                assert len(writers) == 2
                for one in writers:
                    sock = one.get_extra_info("socket")
                    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == IDLE

    run(main())


class Intercept:
    """Intercepts a flow at a hook, as an operator does in mitmweb."""

    def __init__(self, hook: str) -> None:
        self.held: asyncio.Queue[http.HTTPFlow] = asyncio.Queue()
        setattr(self, hook, self._hold)

    def _hold(self, flow: http.HTTPFlow) -> None:
        flow.intercept()
        self.held.put_nowait(flow)


@pytest.mark.paths("on", "off")
@pytest.mark.parametrize("hook", ["requestheaders", "request", "responseheaders", "response"])
def test_an_intercepted_flow_ends_when_it_is_killed(tmp_path: Path, hook: str) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                intercept = Intercept(hook)
                proxy.master.addons.add(intercept)
                writer.write(proxy.request(headers="").encode())
                flow = await asyncio.wait_for(intercept.held.get(), DEADLINE)
                await asyncio.sleep(0)  # until it waits
                flow.kill()
                assert await asyncio.wait_for(reader.read(), DEADLINE) == b""
                assert len(proxy.exchanges) == 0

    run(main())
