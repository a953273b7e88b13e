"""Random clients before an upstream that answers in all ways: each response is of its own request, each request has one
row, and nothing is left open.

`RANDOM_CLIENT_SECONDS=3600 ./run.sh soak -s tests/soak/test_random_client.py` runs for an hour; it prints the figures.
"""

import asyncio
import contextlib
import gc
import os
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support.clients.random_client import Clients
from support.gateway.gateway import Gateway
from support.gateway.inprocess import running
from support.gateway.processes import open_files
from support.network.certificates import Authority
from support.upstreams.echo_upstream import BROKEN, EchoUpstream

from addon.plain.client_connection import ClientConnection
from addon.plain.stream import Stream
from addon.plain.upstream_connection import UpstreamConnection

SECONDS = float(os.environ.get("RANDOM_CLIENT_SECONDS", "180"))
CLIENTS = 100
SEED = int(os.environ.get("RANDOM_CLIENT_SEED", "1"))
QUIET = 60.0
"""Seconds until nothing of the clients may be left: kept connections, lingering ones, settlements."""

IDLE = 15
"""Seconds after which a client that neither reads nor hangs up is cut, twice that where it had asked for more."""

FILES_OF_THE_STORE = 5
"""Files that may be open beside those at the start: the writer's and housekeeping's."""

pytestmark = [
    pytest.mark.soak("addon/layers", "addon/plain", "addon/exchange.py", "addon/gateway.py"),
    pytest.mark.timeout(SECONDS + 10 * QUIET),
]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_each_response_is_of_its_own_request_and_each_request_has_one_row(tmp_path: Path, scheme: str) -> None:
    authority = Authority(tmp_path)
    (tmp_path / "data" / "mitmproxy").mkdir(parents=True)
    (tmp_path / "data" / "mitmproxy" / "config.yaml").write_text(f"ssl_verify_upstream_trusted_ca: {authority.file}\n")

    async def main() -> None:
        async with EchoUpstream.start(authority.server("localhost") if scheme == "https" else None) as upstream:
            with contextlib.ExitStack() as stack:
                start = Gateway.start(tmp_path, upstream.url, LOG_LEVEL="info", IDLE_TIMEOUT=str(IDLE))
                gateway = await asyncio.to_thread(stack.enter_context, start)
                await play(gateway, upstream)

    asyncio.run(main())


async def play(gateway: Gateway, upstream: EchoUpstream) -> None:
    token = await asyncio.to_thread(gateway.make_token)
    pid = gateway.proxies[0].process.pid
    clients = Clients(gateway.port, token["token"], SEED)
    warm = min(20.0, SECONDS / 4)
    files = open_files(pid)
    await clients.run(warm, CLIENTS)
    memory = resident(pid)
    await clients.run(SECONDS - warm, CLIENTS)
    most = len(upstream.open)
    await until(
        lambda: not upstream.open and len(open_files(pid)) <= len(files) + FILES_OF_THE_STORE,
        lambda: f"left: {len(upstream.open)} upstream connections, {open_files(pid)}; at the start {files}",
    )
    print(f"\nRSS {memory} MiB after {warm:.0f} s, {resident(pid)} MiB at the end; {most} upstream connections")
    await until(lambda: not unsettled(gateway), lambda: f"not settled: {unsettled(gateway)}")
    await asyncio.to_thread(check_rows, gateway, token["id"], clients, upstream)
    served = await asyncio.to_thread(gateway.stop_and_count)
    report(clients, upstream)
    print(f"{served.plain} of {served.requests} requests took the plain path ({served.plain / served.requests:.0%})")
    logs = gateway.logs()
    for word in ("Traceback", "after a fault", "exception", token["token"]):
        assert word not in logs
    assert clients.wrong == []
    assert upstream.faults == []


def check_rows(gateway: Gateway, token_id: str, clients: Clients, upstream: EchoUpstream) -> None:
    """Each request that the upstream saw has one row; each row is one request of a client's."""
    counted = gateway.token(token_id)["request_count"]
    rows = rows_of(gateway)
    nonces = Counter(path.rpartition("/")[2] for _, path, _ in rows)
    unseen = nonces.keys() - upstream.seen.keys()
    print(f"{len(clients.sent)} sent, {counted} counted, {len(rows)} rows, {upstream.seen.total()} seen upstream")
    print(f"{len(unseen)} rows of requests that did not go upstream")
    assert counted == len(rows) == len(nonces)
    assert set(upstream.seen.values()) == {1}
    assert upstream.seen.keys() <= nonces.keys() <= clients.sent
    ids = {path.rpartition("/")[2]: row_id for row_id, path, _ in rows}
    assert clients.ids.items() <= ids.items()


def rows_of(gateway: Gateway) -> list[tuple[str, str, str | None]]:
    """Return the ids of the ledger's rows, their paths, and the sources of their usage."""
    path = gateway.data / "llm-proxy.db"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
        return store.execute("SELECT id, path, usage_source FROM request").fetchall()


def unsettled(gateway: Gateway) -> list[str]:
    """Return the paths of requests that have not ended, as the ledger says."""
    return [path for _, path, source in rows_of(gateway) if not source]


def test_no_task_and_no_object_of_a_connection_is_left(tmp_path: Path) -> None:
    async def main() -> None:
        async with EchoUpstream.start() as upstream, running(tmp_path, upstream.url) as proxy:
            before = asyncio.all_tasks()
            clients = Clients(proxy.port, proxy.token.value, SEED)
            await clients.run(min(SECONDS, 60), CLIENTS)
            await until(lambda: not upstream.open and asyncio.all_tasks() <= before, lambda: "a task is left")
            assert len(proxy.exchanges) == 0
            proxy.flows.clear()
            while not proxy.ended.empty():
                proxy.ended.get_nowait()
            await until(lambda: not connections(), lambda: f"left: {connections()}")
            assert clients.wrong == []

    asyncio.run(main())


def connections() -> Counter[str]:
    """Return the objects of the plain path that are alive."""
    gc.collect()
    kinds = (ClientConnection, Stream, UpstreamConnection)
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, kinds))


def report(clients: Clients, upstream: EchoUpstream) -> None:
    print(f"requests: {dict(clients.kinds)}; {clients.hang_ups} hang-ups")
    answered = Counter({status: 0 for _, status in clients.answers})
    for (_, status), number in clients.answers.items():
        answered[status] += number
    print(f"responses, by status (0: broken off): {dict(answered)}")
    failed = {act: n for (act, status), n in clients.answers.items() if status == 503 and act not in BROKEN}
    print(f"503 although the upstream would have answered: {sum(failed.values())}: {failed}")
    print(f"wrong: {len(clients.wrong)} {clients.wrong[:5]}; upstream: {len(upstream.faults)} {upstream.faults[:5]}")


async def until(condition: Callable[[], object], fault: Callable[[], str]) -> None:
    end = asyncio.get_running_loop().time() + QUIET
    while not condition():
        assert asyncio.get_running_loop().time() < end, fault()
        await asyncio.sleep(0.5)


def resident(pid: int) -> int:
    """Return the memory of a process, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") // 2**20
