"""Admissions a second that a store decides, and their latency, by processes, clients and tokens.

    .venv/bin/python tests/benchmarks/admissions.py
    .venv/bin/python tests/benchmarks/admissions.py --database-url URL

Each process is what a worker of the proxy is to the store: an event loop, a writer and a connection of its own. It has
its share of the clients; each of them is admitted, settles with an observed usage that has a price, and repeats. A
latency is that of the part that a request waits for; the CPU is that of these processes, their settling included, and
not of a database server. After each line the store must have counted, for each token, the exact admissions.

A database that is named should have no other use: projects, tokens and ledger stay in it, under a public key, so that
it can be measured again. Without one it is SQLite in a temporary folder.

`--switch`: another process switches a project off and on (the token's, or one of the 20) during the load, and the time
of each switch is shown too. A refused request is repeated at once; it counts nowhere, except as CPU.

`--limits`: each load is measured again with three limits on each token and two on its project, none of which refuses.
"""

import argparse
import asyncio
import base64
import itertools
import multiprocessing
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.stores.limits import limited
from support.stores.stores import API_KEY, make_settings, opened, opening

from store.admission.admission import Admission
from store.errors import ProjectInactive
from store.ledger import pricing
from store.ledger.ledger import Outcome, Settlement
from store.ledger.usage import Consumption, Metered, Source
from store.management.projects import Projects
from store.management.tokens import Tokens
from store.runtime.settings import Settings
from store.store import Store

ENCRYPTION_KEY = base64.b64encode(bytes(32)).decode()
LOADS = ((1, 1), (1, 8), (1, 64), (4, 8), (4, 64))
"""Processes, and clients in all of them together; a single client has one process."""

TOKENS, PROJECTS = 1000, 20
MAX_REQUESTS = 10**9
CONTEXT = multiprocessing.get_context("spawn")
WARM_UP = 0.3
"""Seconds of the same load before the first round."""

SWITCH_PAUSE = 0.05
"""Seconds from the answer to one switch to the next."""

PATIENCE = 60
"""Seconds for the slowest process to be ready; the others give up then."""

OUTCOME = Outcome(
    status=200,
    streamed=False,
    duration_ms=900,
    first_byte_ms=850,
    request_bytes=77,
    response_bytes=548,
    upstream_request_id="req_9d1f0a6c2b7e4c58a3f1",
    upstream="https://api.openai.com",
)
MODEL = "gpt-4o-mini-2024-07-18"
UNITS = {"input_tokens": 19, "output_tokens": 10, "cache_read_tokens": 0, "output_reasoning_tokens": 0}
METERED = Metered(Source.OBSERVED, (Consumption(MODEL, UNITS),), "gpt-4o-mini", MODEL)

COUNTS = (
    "SELECT id, request_count FROM token",
    "SELECT token_id, COUNT(*) FROM request WHERE usage_source = 'observed' GROUP BY token_id",
    "SELECT token_id, SUM(observed) FROM daily_usage GROUP BY token_id",
)
"""The places in which the store counts the requests of each token."""


class Population(NamedTuple):
    """Tokens that are used alike, and one of their projects."""

    name: str
    values: Sequence[str]
    project_id: str


class Round(NamedTuple):
    """The figures of one process: times in seconds, admissions by the ids of their tokens."""

    latencies: list[float]
    admitted: Counter[str]
    seconds: float
    cpu: float


def populate(store: Store, projects: int, tokens: int, *, with_limits: bool = False) -> Population:
    """Make tokens, spread over projects."""
    ids = [Projects(store).create(f"Benchmark {number}", API_KEY).id for number in range(projects)]
    made = [Tokens(store).create(ids[number % projects], max_requests=MAX_REQUESTS) for number in range(tokens)]
    if with_limits:
        for token in made:
            limited(store, token.id, second=MAX_REQUESTS, minute=MAX_REQUESTS, parallel=MAX_REQUESTS)
        for project_id in ids:
            limited(store, project_id, day=MAX_REQUESTS, parallel=MAX_REQUESTS)
    name = f"{tokens} in {projects}{', with limits' * with_limits}"
    return Population(name, [token.value for token in made], ids[0])


async def use(admission: Admission, values: Sequence[str], clients: int, seconds: float) -> Round:
    """Run so many clients at once."""
    latencies: list[float] = []
    counted: Counter[str] = Counter()
    start, cpu = time.perf_counter(), time.process_time()

    async def client() -> None:
        while (begun := time.perf_counter()) < start + seconds:
            try:
                admitted = await admission.admit(random.choice(values), opening())  # noqa: S311 - no secret
            except ProjectInactive:
                continue
            latencies.append(time.perf_counter() - begun)
            counted[admitted.opened.token_id] += 1
            admission.settle(Settlement(admitted.opened, OUTCOME, METERED))

    await asyncio.gather(*(client() for _ in range(clients)))
    return Round(latencies, counted, time.perf_counter() - start, time.process_time() - cpu)


def work(
    settings: Settings, barrier: threading.Barrier, lengths: Sequence[float], values: Sequence[str], clients: int
) -> list[Round]:
    """Run a process that admits, in rounds that begin in all processes at once."""

    async def rounds() -> list[Round]:
        done = []
        for seconds in lengths:
            barrier.wait(PATIENCE)
            done.append(await use(admission, values, clients, seconds))
        return done

    pricing.warm()
    with opened(settings) as store:
        admission = Admission(store)
        try:
            return asyncio.run(rounds())
        finally:
            admission.close()


def switch(settings: Settings, barrier: threading.Barrier, lengths: Sequence[float], project_id: str) -> list[float]:
    """Switch a project off and on, in a process of its own, and leave it on; return the seconds of each switch."""
    times = []
    with opened(settings) as store:
        projects = Projects(store)
        for seconds in lengths:
            barrier.wait(PATIENCE)
            start, is_active = time.perf_counter(), True
            while (begun := time.perf_counter()) < start + seconds or not is_active:
                is_active = not is_active
                projects.update(project_id, {"is_active": is_active})
                times.append(time.perf_counter() - begun)
                time.sleep(SWITCH_PAUSE)
    return times


def counts(store: Store) -> list[Counter[str]]:
    """Return the store's count for each token, in each place that has one."""
    with store.database.read():
        return [Counter({key: int(number) for key, number in store.database.execute(sql, ())}) for sql in COUNTS]


def percentiles(times: Sequence[float]) -> list[float]:
    """Return the median, the 99th percentile and the longest."""
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return [cuts[49], cuts[98], max(times)]


def milliseconds(seconds: float) -> str:
    """Format a time."""
    return f"{1000 * seconds:.2f}"


def summed_up(parts: Sequence[Round]) -> list[float]:
    """Return the figures of one round of all processes: admissions a second, percentiles, microseconds of CPU."""
    latencies = [latency for part in parts for latency in part.latencies]
    cpu = sum(part.cpu for part in parts) / len(latencies)
    return [len(latencies) / max(part.seconds for part in parts), *percentiles(latencies), 1_000_000 * cpu]


class Benchmark:
    """Measures one store, line by line. `lengths` are the seconds of each round."""

    def __init__(
        self, store: Store, settings: Settings, lengths: Sequence[float], *, switching: bool, limits: bool
    ) -> None:
        self._store = store
        self._settings = settings
        self._lengths = [WARM_UP, *lengths]
        self._switching = switching
        self._kinds = (False, True) if limits else (False,)

    def run(self) -> None:
        """Print the table."""
        names = ["store", "processes", "clients", "tokens", "admissions/s", "p50 ms", "p99 ms", "max ms", "CPU µs"]
        names += [f"switch {name} ms" for name in ("p50", "p99", "max") if self._switching]
        print(line(names), line(["---"] * len(names)), sep="\n")
        engine = self._settings.store_url.partition(":")[0]
        for projects, tokens in ((1, 1), (PROJECTS, TOKENS)):
            populations = [populate(self._store, projects, tokens, with_limits=kind) for kind in self._kinds]
            for (processes, clients), population in itertools.product(LOADS, populations):
                figures = self._measure(population, processes, clients)
                print(line([engine, processes, clients, population.name, *figures]), flush=True)

    def _measure(self, population: Population, processes: int, clients: int) -> list[str]:
        """Return the medians of the rounds. Raises RuntimeError when the store's count differs."""
        before = counts(self._store)
        done, switches = self._load(population, processes, clients)
        admitted = sum((part.admitted for parts in done for part in parts), Counter[str]())
        if any(after - earlier != admitted for after, earlier in zip(counts(self._store), before, strict=True)):
            raise RuntimeError(f"{admitted.total()} were admitted, and the store has counted otherwise")
        rounds = [summed_up(parts) for parts in zip(*done, strict=True)][1:]
        per_second, *times, cpu = (statistics.median(figure) for figure in zip(*rounds, strict=True))
        return [f"{per_second:.0f}", *map(milliseconds, times), f"{cpu:.0f}", *map(milliseconds, switches)]

    def _load(self, population: Population, processes: int, clients: int) -> tuple[list[list[Round]], list[float]]:
        """Run the processes; return the rounds of each, and the percentiles of the switches, if there were any."""
        number = processes + self._switching
        with CONTEXT.Manager() as manager, ProcessPoolExecutor(number, mp_context=CONTEXT) as pool:
            shared = (self._settings, manager.Barrier(number), self._lengths)
            working = [pool.submit(work, *shared, population.values, clients // processes) for _ in range(processes)]
            switching = [pool.submit(switch, *shared, population.project_id)] if self._switching else []
            futures: list[Future[Any]] = [*working, *switching]
            for future in as_completed(futures):
                future.result()  # the error of the first that fails has the cause; the others only waited for it
            switches = [figure for future in switching for figure in percentiles(future.result())]
            return [future.result() for future in working], switches


def line(cells: Iterable[object]) -> str:
    """Return a line of the table."""
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database-url", default="")
    parser.add_argument("--seconds", type=float, default=3, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--switch", action="store_true")
    parser.add_argument("--limits", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = make_settings(
            Path(folder), database_url=arguments.database_url, encryption_key=ENCRYPTION_KEY, log_level="warning"
        )
        with opened(settings) as store:
            lengths = [arguments.seconds] * arguments.rounds
            Benchmark(store, settings, lengths, switching=arguments.switch, limits=arguments.limits).run()


if __name__ == "__main__":
    main()
