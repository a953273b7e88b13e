import asyncio
import contextlib
import logging
import re
from pathlib import Path

import pytest
from support.gateway.inprocess import (
    CLOSE,
    Hooks,
    Proxy,
    assert_json_error,
    head_and_body,
    read_answer,
    run,
    running,
    until,
)
from support.gateway.processes import DEADLINE
from support.upstreams.upstreams import OK, Conversation, RawUpstream
from websockets.utils import accept_key

UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "


def answer(conversation: Conversation) -> None:
    """Answer requests whose bodies have a length, or one chunk; and openings of WebSockets."""
    while True:
        head = conversation.read_head().lower()
        if b"upgrade: websocket" in head:
            conversation.send(SWITCHED + accept_key("dGhlIHNhbXBsZSBub25jZQ==").encode() + b"\r\n\r\n")
            conversation.wait_until_closed()
        if b"chunked" in head:
            while not conversation.received.endswith(b"0\r\n\r\n"):
                conversation.read_more()
        elif found := re.search(rb"content-length: (\d+)", head):
            while len(conversation.received.rpartition(b"\r\n\r\n")[2]) < int(found[1]):
                conversation.read_more()
        conversation.send(OK)


LARGE = 1024 * 1024 + 1


def kinds(proxy: Proxy) -> dict[str, str]:
    """Return requests that are for the layers."""
    usual = proxy.request("GET /v1/special", headers="")
    return {
        "chunked": proxy.request("POST /v1/x", headers="Transfer-Encoding: chunked\r\n") + "1\r\na\r\n0\r\n\r\n",
        "expect": proxy.request("POST /v1/x", headers="Expect: 100-continue\r\n", body="abc"),
        "large": proxy.request("POST /v1/x", headers=f"Content-Length: {LARGE}\r\n") + "a" * LARGE,
        "websocket": proxy.request("GET /v1/realtime?model=m", headers=UPGRADE),
        "malformed": usual.replace("Host: ", "Host : "),
        "lone LFs": usual.replace("\r\n", "\n"),
        "HTTP/1.0": usual.replace("HTTP/1.1", "HTTP/1.0"),
        "another method": usual.replace("GET", "PROPFIND"),
        "blank lines first": "\r\n\r\n" + usual,
        "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    }


KINDS = [
    *("chunked", "expect", "large", "websocket", "malformed", "lone LFs", "HTTP/1.0", "another method"),
    *("blank lines first", "HTTP/2"),
]
ENDS = {"malformed", "lone LFs", "HTTP/1.0", "HTTP/2"}
"""Those after whose answer the gateway closes."""

BEGINNING = 1000
"""Bytes that come along with usual requests: of more than a mebibyte, a client would be hung up on."""


async def read_any(reader: asyncio.StreamReader) -> bytes:
    """Read an answer, and an interim one before it."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE)
    if head.startswith(b"HTTP/1.1 100 "):
        return head + await read_any(reader)
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return head + (await reader.readexactly(int(length[1])) if length else b"")


def without_ids(data: bytes) -> bytes:
    """Return an answer without what differs from one request to the next."""
    return re.sub(rb"(?i)(x-(llm-proxy-)?(request-id|remote-duration-ms): )[^\r]*", rb"\1", data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_after_usual_ones_is_answered_as_the_layers_answer_it(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mitmproxy.proxy.server")

    async def by_the_layers(upstream: RawUpstream) -> bytes:
        async with (
            running(tmp_path / "off", upstream.url, plain_path="off") as proxy,
            proxy.connection() as (reader, writer),
        ):
            writer.write(kinds(proxy)[kind].encode())
            return await read_any(reader)

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            expected = await by_the_layers(upstream)
            upstream.forget()
            caplog.clear()
            hooks = Hooks()
            async with running(tmp_path / "on", upstream.url, addons=[hooks]) as proxy:
                async with proxy.connection() as (reader, writer):
                    special = kinds(proxy)[kind].encode()
                    writer.write(2 * proxy.request(headers="").encode() + special[:BEGINNING])
                    for _ in range(2):
                        assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
                    writer.write(special[BEGINNING:])
                    assert without_ids(await read_any(reader)) == without_ids(expected)
                    if kind in ENDS:
                        assert await asyncio.wait_for(reader.read(), DEADLINE) == b""
                    elif kind != "websocket":
                        writer.write(proxy.request(headers="").encode())
                        assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
                    assert proxy.served == 2
                await until(lambda: "client_disconnected" in hooks.called)
            assert hooks.of(Hooks.OF_CLIENTS) == ["client_connected", "client_disconnected"]
        said = [record.message for record in caplog.records if record.message.startswith("client ")]
        assert said == ["client connect", "client disconnect"]

    for name in ("off", "on"):
        (tmp_path / name).mkdir()
    run(main())


@pytest.mark.parametrize("step", [1, 10, 1000])
def test_nothing_is_lost_where_the_layers_take_over(tmp_path: Path, step: int) -> None:
    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                usual = proxy.request("POST /v1/x", headers="", body='{"a": 1}').encode()
                data = usual + kinds(proxy)["chunked"].encode() + usual
                for start in range(0, len(data), step):
                    writer.write(data[start : start + step])
                    await asyncio.sleep(0)
                for _ in range(3):
                    assert (await read_answer(reader)).endswith(b"\r\n\r\n{}")
                assert (proxy.served, len(proxy.flows)) == (1, 3)
            received = upstream.received()
            assert (received.count(b'\r\n\r\n{"a": 1}'), received.count(b"\r\n\r\n1\r\na\r\n0\r\n\r\n")) == (2, 1)

    run(main())


@pytest.mark.paths("on", "off")
def test_tls_after_a_usual_request_is_malformed(tmp_path: Path) -> None:
    hello = b"\x16\x03\x01\x00\x05hello\r\n\r\n"

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                writer.write(proxy.request(headers="").encode())
                assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
                writer.write(hello)
                assert_json_error(await asyncio.wait_for(reader.read(), DEADLINE), 400, "invalid_request")
                assert len(proxy.flows) == 1

    run(main())


@pytest.mark.paths("on", "off")
@pytest.mark.parametrize("sent", [b"", b"GET /v1/mod", b"POST /v1/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"])
def test_a_client_that_leaves_is_noted_once(tmp_path: Path, sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mitmproxy.proxy.server")

    async def main() -> None:
        hooks = Hooks()
        async with running(tmp_path, "http://127.0.0.1:9", addons=[hooks]) as proxy:
            async with proxy.connection() as (_, writer):
                writer.write(sent)
                await until(lambda: hooks.called)
            await until(lambda: "client_disconnected" in hooks.called)
            assert not proxy.master.addons.get("proxyserver").connections
        assert hooks.called == ["client_connected", "client_disconnected"]
        said = [record.message for record in caplog.records if record.message.startswith("client ")]
        assert said == ["client connect", "client disconnect"]

    run(main())


@pytest.mark.paths("on", "off")
def test_a_connection_that_an_addon_refuses_is_closed(tmp_path: Path) -> None:
    class Refuse:
        def client_connected(self, client: object) -> None:
            client.error = "not today"  # type: ignore[attr-defined]

    async def main() -> None:
        async with running(tmp_path, "http://127.0.0.1:9", addons=[Refuse()]) as proxy:
            with contextlib.suppress(ConnectionResetError):
                assert await proxy.ask(proxy.request()) == b""
            assert proxy.flows == []

    run(main())


def test_a_mode_without_the_plain_path_is_for_the_layers(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url, plain_path="off") as proxy:
                assert head_and_body(await proxy.ask(proxy.request(headers=CLOSE)))[0] == 200
                assert_json_error(await proxy.ask(kinds(proxy)["malformed"]), 400, "invalid_request")
                assert proxy.served == 0

    run(main())
