"""The cost of the management API beside a proxy under load, to itself and to the proxy: tokens made, and tokens listed.

    PYTHONPATH=tests .venv/bin/python tests/benchmarks/management.py

The latencies are those of the proxy's clients with and without that in the same run, in turn, several times.
"""

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import httpx
from benchmarks.bench import jobs, load
from benchmarks.bench.site import Credentials, Running, Site
from support.gateway.gateway import MANAGEMENT_TOKEN, Gateway
from support.stores.stores import make_many_tokens

MADE, LISTED = 1000, 10_000
CLIENTS = 8


class Operator:
    """Asks the management API over one kept connection; each method returns the seconds that it took."""

    def __init__(self, gateway: Gateway, project_id: str) -> None:
        self._client = httpx.Client(
            base_url=gateway.manage_url, headers={"Authorization": f"Bearer {MANAGEMENT_TOKEN}"}, timeout=60
        )
        self._project_id = project_id

    def make_tokens(self) -> float:
        start = time.perf_counter()
        for _ in range(MADE):
            self._client.post("/manage/tokens", json={"project_id": self._project_id}).raise_for_status()
        return time.perf_counter() - start

    def list_tokens(self) -> float:
        start = time.perf_counter()
        found = self._client.get("/manage/tokens", params={"projectId": self._project_id}).raise_for_status().json()
        if len(found) < LISTED:
            raise RuntimeError(f"{len(found)} tokens only")
        return time.perf_counter() - start


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1) as pool,
        Site.open(Path(folder) / "site") as site,
        Gateway.start(Path(folder), site.url, LOG_LEVEL="warning") as gateway,
    ):
        credentials = Credentials.make(gateway)
        with gateway.store() as store:
            project_id = gateway.make_project()["id"]
            make_many_tokens(store, project_id, LISTED)
        worker = Running(gateway.proxies[0].process, gateway.port, credentials)
        run(worker, site, pool, Operator(gateway, project_id), arguments)


def run(
    worker: Running, site: Site, pool: ProcessPoolExecutor, operator: Operator, arguments: argparse.Namespace
) -> None:
    """Measure in turn, and print the medians."""
    job, other = jobs.plain(CLIENTS, worker), site.upstream.process.pid
    making, listing = operator.make_tokens, operator.list_tokens
    acts = {"nothing": lambda: 0.0, f"{MADE} tokens made": making, f"{LISTED} tokens listed": listing}
    rounds: dict[str, list[tuple[dict[str, float], float]]] = {name: [] for name in acts}
    for _ in range(arguments.rounds):
        for name, act in acts.items():
            measured = pool.submit(load.measure, job, arguments.seconds, worker.pids(), other)
            time.sleep(0.5)  # until the clients are warm
            took = act()
            rounds[name].append((measured.result(), took))
    for name, found in rounds.items():
        p50, p99, rate = (statistics.median(one[key] for one, _ in found) for key in ("p50_ms", "p99_ms", "per_second"))
        took = statistics.median(took for _, took in found)
        print(f"{name}: {took:.2f} s; the proxy during that {rate:.0f} a second, p50 {p50:.1f} ms, p99 {p99:.1f} ms")


if __name__ == "__main__":
    main()
