import asyncio
import os
import signal
import socket
import sys
from asyncio.trsock import TransportSocket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.proxy.mode_specs import ProxyMode, ReverseMode
from mitmproxy.tools.dump import DumpMaster
from support.gateway.inprocess import CLOSE, head_and_body, running
from support.gateway.processes import DEADLINE, free_port
from support.gateway.signals import signals_kept
from support.upstreams.upstreams import OK, Conversation, RawUpstream, answer_all

from addon.serving import listening
from store.runtime.lifecycle import BACKLOG
from store.runtime.settings import Settings


@pytest.fixture(autouse=True)
def _signals_kept() -> Iterator[None]:
    with signals_kept():
        yield


@pytest.mark.parametrize(
    ("upstream", "listen", "address", "listen_host"),
    [
        ("https://api.openai.com/v1", "127.0.0.1:8080", ("api.openai.com", 443), "127.0.0.1"),
        ("http://localhost:11434", "0.0.0.0:80", ("localhost", 11434), "0.0.0.0"),  # noqa: S104
        ("http://[::1]:9000/base", "[::1]:8080", ("::1", 9000), "::1"),
    ],
)
def test_the_mode_leads_to_the_upstreams_origin(
    upstream: str, listen: str, address: tuple[str, int], listen_host: str
) -> None:
    settings = Settings(_env_file=None, upstream_url=upstream, proxy_listen=listen)
    mode = ProxyMode.parse(listening.reverse_mode(settings))
    assert isinstance(mode, ReverseMode)
    assert (mode.scheme, mode.address) == (settings.upstream.scheme, address)
    assert (mode.listen_host(), mode.listen_port()) == (listen_host, settings.proxy.port)


@asynccontextmanager
async def running_master(*modes: str) -> AsyncIterator[Master]:
    started = asyncio.Event()

    class Started:
        def running(self) -> None:
            started.set()

    master = DumpMaster(Options(), with_termlog=False, with_dumper=False)
    master.addons.add(Started())
    master.options.update(mode=[*modes])
    task = asyncio.create_task(master.run())
    try:
        await asyncio.wait_for(started.wait(), DEADLINE)
        yield master
    finally:
        await listening.stop(master)
        master.shutdown()
        await asyncio.wait_for(task, DEADLINE)


def test_switching_opens_the_port_in_the_new_mode_and_stopping_closes_it() -> None:
    async def main() -> None:
        async with running_master("reverse:http://127.0.0.1:1@127.0.0.1:0") as master:
            listening.switch_to(master, "reverse:http://127.0.0.1:2@127.0.0.1:0")
            proxyserver = listening._proxyserver(master)  # noqa: SLF001
            while not [server for server in proxyserver.servers if ":2@" in server.mode.full_spec]:
                await asyncio.sleep(0)
            await asyncio.gather(*listening._tasks)  # noqa: SLF001
            (server,) = proxyserver.servers
            assert server.is_running
            port = server.listen_addrs[0][1]
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
            await listening.stop(master)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(main())


@pytest.mark.parametrize(("listen", "shown"), [("127.0.0.1", "127.0.0.1"), ("", ""), ("::", "")])
def test_the_address_of_the_first_mode_is_shown(listen: str, shown: str) -> None:
    async def main() -> None:
        async with running_master(
            f"reverse:http://127.0.0.1:1@{listen}:0", "reverse:http://127.0.0.1:2@localhost:0"
        ) as master:
            port = listening._listening(master)[0].sockets[0].getsockname()[1]  # noqa: SLF001
            listening.show_address(master)
            await asyncio.gather(*listening._tasks)  # noqa: SLF001
            assert (master.options.listen_host, master.options.listen_port) == (shown, port)

    asyncio.run(main())


def test_the_address_is_shown_after_a_switch() -> None:
    async def main() -> None:
        async with running_master("reverse:http://127.0.0.1:1@0") as master:
            listening.switch_to(master, "reverse:http://127.0.0.1:2@127.0.0.1:0")
            listening.show_address(master)
            await asyncio.gather(*listening._tasks)  # noqa: SLF001
            (server,) = listening._listening(master)  # noqa: SLF001
            assert (master.options.listen_host, master.options.listen_port) == server.sockets[0].getsockname()

    asyncio.run(main())


def test_no_address_is_shown_where_nothing_listens() -> None:
    async def main() -> None:
        async with running_master("reverse:http://127.0.0.1:1@127.0.0.1:0") as master:
            master.options.update(server=False)
            await listening.stop(master)
            listening.show_address(master)
            await asyncio.gather(*listening._tasks)  # noqa: SLF001
            assert not master.options.has_changed("listen_port")

    asyncio.run(main())


@pytest.mark.parametrize("way", ["by itself", "as the launcher has it"])
def test_the_any_address_of_ipv6_accepts_ipv4_too(way: str) -> None:
    mode, port = "reverse:http://127.0.0.1:2@:::{}", free_port()

    async def main() -> None:
        first = mode.format(port) if way != "by itself" else "reverse:http://127.0.0.1:1@127.0.0.1:0"
        if way != "by itself":
            listening.wait_to_serve([])
        async with running_master(first) as master:
            if way == "by itself":
                listening.switch_to(master, mode.format(port))
            listening.serve(master)
            await asyncio.gather(*listening._tasks)  # noqa: SLF001
            for address in ("127.0.0.1", "::1"):
                _, writer = await asyncio.open_connection(address, port)
                writer.close()
                await writer.wait_closed()

    asyncio.run(main())


def queue_of(listening_socket: socket.socket | TransportSocket) -> int:
    """Return how many connections may wait: `tcpi_sacked` of a socket that listens (linux/tcp.h)."""
    info: bytes = listening_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    return int.from_bytes(info[28:32], sys.byteorder)


@pytest.mark.parametrize("is_given", [True, False])
def test_the_backlog_is_as_configured(is_given: bool) -> None:

    async def main(given: Sequence[socket.socket]) -> None:
        listening.wait_to_serve(given)
        async with running_master("reverse:http://127.0.0.1:1@127.0.0.1:0") as master:
            listening.serve(master)
            await asyncio.gather(*listening._tasks)  # noqa: SLF001
            (server,) = listening._listening(master)  # noqa: SLF001
            assert queue_of(server.sockets[0]) == queue_of(reference)

    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as reference, socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        asyncio.run(main([given] if is_given else []))


def test_a_master_without_a_proxyserver_is_rejected() -> None:
    async def main() -> None:
        with pytest.raises(TypeError):
            await listening.stop(Master(Options()))

    asyncio.run(main())


def test_a_stop_finishes_the_request_under_way_and_accepts_no_new_ones(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        asked, answer_now = asyncio.Event(), asyncio.Event()

        def answer(conversation: Conversation) -> None:
            conversation.read_head()
            loop.call_soon_threadsafe(asked.set)
            asyncio.run_coroutine_threadsafe(answer_now.wait(), loop).result(DEADLINE)
            conversation.send(OK)

        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                port = proxy.port
                asking = asyncio.create_task(proxy.ask(proxy.request(headers=CLOSE)))
                await asyncio.wait_for(asked.wait(), DEADLINE)
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)  # the group's and the forwarded one
                while await _accepts(port):
                    await asyncio.sleep(0)
                assert not proxy.master.should_exit.is_set()
                answer_now.set()
                assert head_and_body(await asking)[0] == 200
                await asyncio.wait_for(proxy.master.should_exit.wait(), DEADLINE)

    asyncio.run(main())


def test_a_stop_cuts_requests_that_do_not_end_in_time(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(Conversation.wait_until_closed) as upstream:
            async with running(tmp_path, upstream.url, drain_timeout=0.1) as proxy, proxy.connection() as (_, writer):
                writer.write(proxy.request().encode())
                while not proxy.flows:
                    await asyncio.sleep(0)
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.wait_for(proxy.master.should_exit.wait(), DEADLINE)

    asyncio.run(main())


def test_a_stop_without_requests_is_immediate(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url, drain_timeout=1000) as proxy:
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.wait_for(proxy.master.should_exit.wait(), DEADLINE)

    asyncio.run(main())


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:  # refused, or accepted by the port's queue and reset
        return False
    writer.close()
    await writer.wait_closed()
    return True
