"""The latency of requests while `llm-proxy rotate` runs, in one run beside the same load without it.

    .venv/bin/python tests/benchmarks/rotation.py

The proxy, the management API, the upstream and the rotation are processes of their own on this machine. Each round
reverses the ring, so that every token is encrypted again; then does the same to an unused store, which shows the cost
of the processor alone; then nothing. The latencies are those of clients on kept-alive connections between the start and
the end of the command, the start of its interpreter included.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
from support.gateway.gateway import Gateway, bearer
from support.gateway.processes import tool
from support.stores.stores import make_many_tokens, make_settings, opened
from support.upstreams.upstreams import KEY, DemoUpstream

from store.encryption.crypto import new_key
from store.management.projects import Projects

CLIENTS = 4
PAUSE = 0.005
"""Seconds between a client's requests: the machine must not be busy with the clients."""


class Load:
    """Clients that send requests until `stop`; `samples` has the end and the duration of each, in seconds."""

    def __init__(self, gateway: Gateway, token: dict[str, Any]) -> None:
        self.samples: list[tuple[float, float]] = []
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(gateway.url, token)) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the clients."""
        self._done.set()
        for thread in self._threads:
            thread.join()

    def during(self, act: Callable[[], object]) -> list[float]:
        """Return the milliseconds of the requests that ended while `act` ran."""
        start = time.perf_counter()
        act()
        return [1000 * duration for end, duration in list(self.samples) if end > start]

    def _send(self, url: str, token: dict[str, Any]) -> None:
        with httpx.Client(base_url=url, headers=bearer(token), timeout=30) as client:
            while not self._done.wait(PAUSE):
                start = time.perf_counter()
                client.get("/v1/models").raise_for_status()
                end = time.perf_counter()
                self.samples.append((end, end - start))


def rotate(gateway: Gateway, folder: Path, ring: Sequence[str]) -> None:
    """Run the command once on a folder's store, with the ring in this order."""
    env = {**gateway.env, "DATA_DIR": str(folder / "data"), "ENCRYPTION_KEY": ",".join(ring)}
    subprocess.run([tool("llm-proxy"), "rotate"], env=env, check=True, stdout=subprocess.DEVNULL)


def summary(name: str, latencies: list[float]) -> str:
    """Return the figures as a line."""
    cuts = statistics.quantiles(latencies, n=100)
    figures = f"p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, max {max(latencies):.1f} ms"
    return f"{name}: {len(latencies)} requests, {figures}"


def make_store(folder: Path, ring: Sequence[str], tokens: int) -> None:
    """Make a store with so many tokens."""
    with opened(make_settings(folder, encryption_key=",".join(ring))) as store:
        make_many_tokens(store, Projects(store).create("Many", KEY).id, tokens)


def measure(folder: Path, tokens: int, rounds: int) -> None:
    """Measure with a rotation, with that of another store, and without, in turn, and print all three."""
    ring = [new_key(), new_key()]
    other = folder / "other"
    other.mkdir()
    for store in (folder, other):
        make_store(store, ring, tokens)
    here: list[float] = []
    elsewhere: list[float] = []
    calm: list[float] = []
    times: list[float] = []
    with (
        DemoUpstream.start(folder) as upstream,
        Gateway.start(folder, upstream.url, LOG_LEVEL="warning", ENCRYPTION_KEY=",".join(ring)) as gateway,
    ):
        load = Load(gateway, gateway.make_token())
        time.sleep(2)
        for _ in range(rounds):
            ring.reverse()
            start = time.perf_counter()
            here += load.during(lambda: rotate(gateway, folder, ring))
            times.append(time.perf_counter() - start)
            elsewhere += load.during(lambda: rotate(gateway, other, ring))
            calm += load.during(lambda: time.sleep(times[-1]))
        load.stop()
    print(f"{tokens} tokens, {rounds} rotations of {statistics.median(times):.2f} s")
    print(summary("while it runs", here))
    print(summary("while one of another store runs", elsewhere))
    print(summary("without", calm))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), arguments.tokens, arguments.rounds)


if __name__ == "__main__":
    main()
