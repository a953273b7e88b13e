"""The effect of a crowd on one worker: thousands of idle connections beside active ones, hundreds of streams at once.

    PYTHONPATH=tests .venv/bin/python tests/benchmarks/crowds.py

Each is measured with and without the crowd in the same run, in turn, several times; the output has the medians and
their ratio. The load generator and the upstream share the machine with the worker, and report their shares of it.
"""

import argparse
import contextlib
import socket
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.bench import jobs, load
from benchmarks.bench.contestants import CONTESTANTS, started
from benchmarks.bench.figures import Round
from benchmarks.bench.load import Ask, Job
from benchmarks.bench.messages import request
from benchmarks.bench.site import Running, Site

from store.runtime.lifecycle import allow_many_open_files

IDLE, ACTIVE = 2000, 500
STREAMS, EVENTS_A_SECOND, LASTS = 500, 20, 5
FEW_STREAMS = 10
APART = 0.002


@contextlib.contextmanager
def idle(port: int, number: int) -> Iterator[None]:
    """Hold connections open that ask for nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        yield


def streams(worker: Running, number: int) -> Job:
    """Return streams of events, which begin spread over the time between two events."""
    pause_ms = 1000 // EVENTS_A_SECOND
    ask = Ask(request(worker.credentials.token, events=EVENTS_A_SECOND * LASTS, pause_ms=pause_ms))
    return Job(worker.port, [ask], number, apart=LASTS / number)


def median(rounds: Sequence[Round], name: str) -> float:
    return statistics.median(one[name] for one in rounds)


def show(what: str, rounds: Sequence[Round], names: Sequence[str]) -> None:
    """Print the medians of some figures."""
    figures = ", ".join(f"{name} {median(rounds, name):.2f}" for name in names)
    print(f"{what}: {figures}", flush=True)


def compare_idle(worker: Running, upstream: Running, pool: ProcessPoolExecutor, rounds: int, seconds: float) -> None:
    """Measure active connections alone, and beside idle ones."""
    job, pids, other = jobs.plain(ACTIVE, worker), worker.pids(), upstream.process.pid
    alone, beside = [], []
    for _ in range(rounds):
        alone.append(pool.submit(load.measure, job, seconds, pids, other).result())
        with idle(worker.port, IDLE):
            beside.append(pool.submit(load.measure, job, seconds, pids, other).result())
    names = ("per_second", "p50_ms", "p99_ms", "cpu_ms", "load", "upstream")
    show(f"{ACTIVE} active connections", alone, names)
    show(f"{ACTIVE} active and {IDLE} idle ones", beside, names)
    for name in ("p50_ms", "p99_ms"):
        ratio = statistics.median(one[name] / other[name] for one, other in zip(beside, alone, strict=True))
        print(f"ratio of {name}: {ratio:.2f}")


def compare_streams(worker: Running, upstream: Running, pool: ProcessPoolExecutor, rounds: int) -> None:
    """Measure few streams, and many."""
    for number in (FEW_STREAMS, STREAMS // 2, STREAMS):
        found = [
            pool.submit(load.measure, streams(worker, number), 2 * LASTS, worker.pids(), upstream.process.pid).result()
            for _ in range(rounds)
        ]
        for one in found:
            one["events_per_second"] = one["per_second"] * EVENTS_A_SECOND * LASTS
            one["cpu_us_an_event"] = 1000 * one["cpu_ms"] / (EVENTS_A_SECOND * LASTS)
        names = [name for name in found[0] if name not in {"cpu_ms", "per_second"}]
        show(f"{number} streams of {EVENTS_A_SECOND} events a second", found, names)


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    arguments = parser.parse_args()
    allow_many_open_files()
    launcher = [one for one in CONTESTANTS if one.name == "launcher-sqlite"]
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1) as pool,
        Site.open(Path(folder) / "site") as site,
        started(launcher, site) as found,
    ):
        (worker,) = found.values()
        compare_idle(worker, site.upstream, pool, arguments.rounds, arguments.seconds)
        compare_streams(worker, site.upstream, pool, max(1, arguments.rounds // 2))


if __name__ == "__main__":
    main()
