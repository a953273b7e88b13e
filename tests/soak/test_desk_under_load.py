"""The pages on a large store, beside a proxy under load: how fast they are, and how little the proxy's clients notice.

`./run.sh soak -s tests/soak/test_desk_under_load.py` prints the figures. A round without views comes before each one
with them; what counts is the median of the differences.
"""

import contextlib
import itertools
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import httpx
import pytest
from benchmarks.bench import jobs, load
from benchmarks.bench.site import Credentials, Running, Site
from support.clients.page_crawler import Crawler
from support.gateway.gateway import MANAGEMENT_TOKEN, Gateway
from support.stores import large

pytestmark = pytest.mark.soak("manage_api/pages", "store/reports")

TOKENS = 100_000
REQUESTS = 1_000_000
CLIENTS = 8
ROUNDS = 7
SECONDS = 12.0
"""A round is so long that the sums of a day and of a week are renewed in the course of the test."""
PAUSE = 0.25
"""Seconds between two views, as of several people who click all the time."""

MOST_LIST = 0.2
MOST_OVERVIEW = 0.5
"""Seconds for which 99 % of the views take at most."""
MOST_GROWTH = 10.0
"""Milliseconds by which the 99th percentile of the proxy's latency may grow."""

LISTS = ("/tokens", "/tokens?page=700", "/tokens?sort=name", "/tokens?sort=used&order=desc", "/tokens?q=77")
OVERVIEWS = ("/", "/?days=7", "/?days=30")


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[tuple[Site, Gateway]]:
    with (
        Site.open(tmp_path / "site") as site,
        Gateway.start(tmp_path, site.url, database_url=database_url, LOG_LEVEL="warning") as gateway,
    ):
        with gateway.store() as store:
            large.fill(store, TOKENS, REQUESTS)
        gateway.management.stop()
        gateway.start_management()  # it makes the sums of a large store at its start
        yield site, gateway


def look(client: httpx.Client, address: str) -> float:
    """Return the seconds that a page takes."""
    began = time.monotonic()
    response = client.get(address)
    took = time.monotonic() - began
    assert response.status_code == 200, (address, response.text)
    return took


def views(client: httpx.Client, until: Callable[[], bool]) -> dict[str, list[float]]:
    """Look at pages in turn, with pauses; return the seconds that each took."""
    took: dict[str, list[float]] = {address: [] for address in (*LISTS, *OVERVIEWS)}
    for address in itertools.cycle(took):
        if until():
            return took
        took[address].append(look(client, address))
        time.sleep(PAUSE)
    raise AssertionError("a cycle has no end")


def p99(times: list[float]) -> float:
    """Return the 99th percentile; of few values the largest."""
    return sorted(times)[math.ceil(0.99 * len(times)) - 1]


def test_pages_are_fast_and_the_proxy_does_not_notice(site: tuple[Site, Gateway]) -> None:
    bench, gateway = site
    worker = Running(gateway.proxies[0].process, gateway.port, Credentials.make(gateway))
    job, other = jobs.plain(CLIENTS, worker), bench.upstream.process.pid
    growths, took = list[float](), dict[str, list[float]]()
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")))
        client = stack.enter_context(Crawler.log_in(gateway.manage_url, MANAGEMENT_TOKEN)).client
        for address in (*LISTS, *OVERVIEWS):  # the first view reads templates, and may wait for the sums
            print(f"{address}: first view {1000 * look(client, address):.0f} ms", flush=True)
        for _ in range(ROUNDS):
            alone = pool.submit(load.measure, job, SECONDS, worker.pids(), other).result()
            beside = pool.submit(load.measure, job, SECONDS, worker.pids(), other)
            for address, seconds in views(client, beside.done).items():
                took.setdefault(address, []).extend(seconds)
            growths.append(beside.result()["p99_ms"] - alone["p99_ms"])
            print(f"p99 alone {alone['p99_ms']:.1f} ms, with views {beside.result()['p99_ms']:.1f} ms", flush=True)
    for address, seconds in took.items():
        median, highest = statistics.median(seconds), p99(seconds)
        print(f"{address}: {len(seconds)} views, median {1000 * median:.0f} ms, p99 {1000 * highest:.0f} ms")
    lists, overviews = ([seconds for each in some for seconds in took[each]] for some in (LISTS, OVERVIEWS))
    assert p99(lists) < MOST_LIST
    assert p99(overviews) < MOST_OVERVIEW
    assert statistics.median(growths) <= MOST_GROWTH
