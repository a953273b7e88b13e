"""The order of the measurements: each round measures every contestant in turn, so that noise affects all alike."""

import functools
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.bench import jobs, load
from benchmarks.bench.contestants import Contestant, started
from benchmarks.bench.figures import (
    AT_THE_END,
    DIRECT,
    EVENTS,
    MEMORY,
    PATHS,
    TLS_KEPT,
    TLS_NEW,
    Results,
    Round,
    load_at,
)
from benchmarks.bench.machine import resident_mib, version_of
from benchmarks.bench.site import Running, Site
from support.load.processors import Others
from support.stores.postgresql import Server, programs


class Plan(NamedTuple):
    """The amount of measuring; times in seconds, the rest in requests: memory is read after each of the `steps`."""

    rounds: int
    seconds: float
    stream_seconds: float
    tls_seconds: float
    connections: Sequence[int]
    warm_up: int
    steps: Sequence[int]
    steps_end: float


FULL = Plan(
    rounds=5,
    seconds=2.5,
    stream_seconds=4,
    tls_seconds=1.5,
    connections=(1, 32, 256),
    warm_up=300,
    steps=(1_000, 50_000, 200_000),
    steps_end=360,
)
QUICK = Plan(
    rounds=1,
    seconds=0.3,
    stream_seconds=2,
    tls_seconds=0.2,
    connections=(1, 32),
    warm_up=20,
    steps=(200,),
    steps_end=60,
)


class Measure(NamedTuple):
    """The requests to a contestant, and their seconds. `with_direct`: they are sent to the upstream itself as well."""

    name: str
    job: Callable[[Running], load.Job]
    seconds: float
    with_direct: bool = False


class Benchmark:
    """Measures contestants, and adds the figures to the results. The pool runs the load."""

    def __init__(
        self, contestants: Sequence[Contestant], plan: Plan, results: Results, pool: ProcessPoolExecutor
    ) -> None:
        self._contestants = contestants
        self._plan = plan
        self._results = results
        self._pool = pool

    def run(self, folder: Path) -> None:
        """Measure everything, with files in a folder. Raises the first error of any request.

        Raises RuntimeError if a request was not served on the plain path.
        """
        with ExitStack() as stack:

            @functools.cache
            def server() -> Server:
                self._results.machine["PostgreSQL"] = version_of(programs() / "postgres", "--version")
                return stack.enter_context(Server.running())

            with Site.open(folder / "paths", server, log_level="info") as site:
                self._count_paths(site)
            with Site.open(folder / "loads", server) as site:
                self._measure_loads(site)
            with Site.open(folder / "tls", server, tls=True) as site:
                self._measure_tls(site)
            with Site.open(folder / "memory", server) as site:
                self._measure_memory(site)

    def _count_paths(self, site: Site) -> None:
        """Send requests of each kind to those on the plain path, and count them: the other sites have no such log."""
        sent: dict[str, int] = {}
        with started([one for one in self._contestants if one.is_plain], site) as found:
            for name, one in found.items():
                kept = [jobs.plain(number, one) for number in self._plan.connections]
                every = [*kept, jobs.plain(1, one, kept=False), jobs.mixed(one)]
                sent[name] = sum(self._pool.submit(load.send, job, self._plan.warm_up).result() for job in every)
        for name, one in found.items():
            figures = _paths(one)
            self._results.add(PATHS, name, figures)
            if not sent[name] <= figures["plain_requests"] == figures["requests"]:
                raise RuntimeError(f"{name} was sent {sent[name]} requests for the plain path, and served {figures}")

    def _measure_loads(self, site: Site) -> None:
        """Send plain requests and streams to all; read their memory after that."""
        plan = self._plan
        measures = [Measure(load_at(number), partial(jobs.plain, number), plan.seconds) for number in plan.connections]
        measures.append(Measure(EVENTS, jobs.streams, plan.stream_seconds, with_direct=True))
        with started(self._contestants, site) as found:
            self._measure_all(measures, found, site.upstream)
            for name, one in found.items():
                self._results.add(MEMORY, name, {AT_THE_END: _mib(one)})

    def _measure_tls(self, site: Site) -> None:
        """Send requests on kept and on new connections to those of one process."""
        seconds = self._plan.tls_seconds
        measures = [
            Measure(name, partial(jobs.plain, 1, kept=kept), seconds)
            for name, kept in ((TLS_KEPT, True), (TLS_NEW, False))
        ]
        with started([one for one in self._contestants if one.single], site) as found:
            self._measure_all(measures, found, site.upstream)

    def _measure_memory(self, site: Site) -> None:
        """Send many requests to all lasting ones at once: their memory does not depend on other processes."""
        with (
            started([one for one in self._contestants if one.lasting], site) as found,
            ThreadPoolExecutor() as threads,
        ):
            for name, mib in zip(found, threads.map(self._steps, found, found.values()), strict=True):
                self._results.add(MEMORY, name, mib)

    def _measure_all(self, measures: Sequence[Measure], contestants: Mapping[str, Running], upstream: Running) -> None:
        for one in contestants.values():
            self._pool.submit(load.send, jobs.plain(10, one), self._plan.warm_up).result()
        names = list(contestants)
        for turn in range(self._plan.rounds):
            first = turn % max(1, len(names))  # the work that one leaves behind does not always disturb the same other
            ordered = {name: contestants[name] for name in (*names[first:], *names[:first])}
            for measure in measures:
                direct = {DIRECT: upstream} if measure.with_direct else {}
                for name, one in {**direct, **ordered}.items():
                    figures = self._measure(measure, one, upstream)
                    self._results.add(measure.name, name, figures)
                    _say(f"round {turn + 1} of {self._plan.rounds}, {measure.name}: {name}, {_summary(figures)}")

    def _measure(self, measure: Measure, one: Running, upstream: Running) -> Round:
        others = Others()
        measuring = self._pool.submit(load.measure, measure.job(one), measure.seconds, one.pids(), upstream.process.pid)
        return {**measuring.result(), "others": others.share()}

    def _steps(self, name: str, one: Running) -> Round:
        """Return the MiB after each step that is reached in time."""
        job, until = jobs.mixed(one), time.monotonic() + self._plan.steps_end
        found: Round = {}
        done = 0
        for step in self._plan.steps:
            done += self._pool.submit(load.send, job, step - done, until - time.monotonic()).result()
            _say(f"memory: {name} had {done:,} requests, and takes {_mib(one):.0f} MiB")
            if done < step:
                self._results.notes.append(f"{name} had {done:,} of {step:,} requests when their time was over.")
                break
            found[f"{step:,}"] = _mib(one)
        return found


def _mib(one: Running) -> float:
    """Return the resident memory of a contestant, the mean of its workers."""
    pids = one.pids()
    return sum(map(resident_mib, pids)) / len(pids)


def _paths(one: Running) -> Round:
    """Return the requests that the processes of a contestant counted, all and those on the plain path."""
    counts = [json.loads(line) for line in one.process.output().splitlines() if '"event": "stopped"' in line]
    return {name: sum(count[name] for count in counts) for name in ("requests", "plain_requests")}


def _summary(figures: Round) -> str:
    return f"{figures['per_second']:.0f} requests a second, {figures['cpu_ms']:.2f} ms of CPU each"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
