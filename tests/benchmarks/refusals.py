"""The cost, to others, of a client that keeps asking with a refused token; and the share of the refusals' rows in it.

    .venv/bin/python tests/benchmarks/refusals.py
    .venv/bin/python tests/benchmarks/refusals.py --seconds 600 --rounds 1 --kinds loop

In one process, as a worker of the proxy is to the store: some clients are admitted, settle and repeat, while others ask
with a token that is used up, and ask again as soon as they are refused. Three kinds of rounds take turns: `alone`
without those others; `untraced` with them, where no refusal is written down; `loop` with them, as it is. The CPU is
that of the process for each request that was decided, admitted or refused, all writing included. The last line is the
ratio of `loop` to `untraced`: it is what the trace costs.

After each round the store must have counted the admitted requests, and the refusals' rows must stand for the refused.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.admissions import METERED, OUTCOME, line, milliseconds, percentiles
from support.stores.stores import make_settings, make_token, opened, opening

from store.admission.admission import Admission
from store.errors import QuotaExhausted, TokenRefused
from store.ledger import pricing
from store.ledger.ledger import Settlement
from store.management.tokens import TokenRecord
from store.store import Store

CLIENTS = 8
LOOPING = 4
KINDS = ("alone", "untraced", "loop")
REFUSED = "SELECT COUNT(*), COALESCE(SUM(repeats), 0) FROM refusal WHERE token_id = ?"


class Round(NamedTuple):
    """The figures of one round; times in seconds, CPU in microseconds for each request that was decided."""

    kind: str
    seconds: float
    latencies: Sequence[float]
    refused: int
    rows: int
    cpu: float


def no_trace(error: TokenRefused) -> None:
    """Write no row."""


async def load(
    admission: Admission, good: TokenRecord, bad: TokenRecord, looping: int, seconds: float
) -> tuple[list[float], int]:
    """Run the clients; return the latencies of admissions, and the number of refusals."""
    latencies: list[float] = []
    refused = 0
    end = time.perf_counter() + seconds

    async def work() -> None:
        while (begun := time.perf_counter()) < end:
            admitted = await admission.admit(good.value, opening())
            latencies.append(time.perf_counter() - begun)
            admission.settle(Settlement(admitted.opened, OUTCOME, METERED))

    async def loop() -> None:
        nonlocal refused
        while time.perf_counter() < end:
            try:
                await admission.admit(bad.value, opening())
            except QuotaExhausted:
                refused += 1

    await asyncio.gather(*(work() for _ in range(CLIENTS)), *(loop() for _ in range(looping)))
    return latencies, refused


def measure(store: Store, kind: str, seconds: float) -> Round:
    """Do one round. Raises RuntimeError where the store's count differs."""
    good, bad = make_token(store, max_requests=10**9), make_token(store, max_requests=1)
    admission = Admission(store)
    asyncio.run(use_up(admission, bad))
    if kind == "untraced":
        admission._refusals.count = no_trace  # type: ignore[method-assign] # noqa: SLF001
    start, cpu = time.perf_counter(), time.process_time()
    latencies, refused = asyncio.run(load(admission, good, bad, LOOPING if kind != "alone" else 0, seconds))
    took = time.perf_counter() - start
    admission.close()
    cpu = time.process_time() - cpu
    with store.database.read():
        ((rows, repeats),) = store.database.execute(REFUSED, [bad.id])
        ((counted,),) = store.database.execute("SELECT request_count FROM token WHERE id = ?", [good.id])
    if counted != len(latencies) or repeats != (refused if kind == "loop" else 0):
        raise RuntimeError(f"{len(latencies)} admitted, {refused} refused; the store has {counted} and {repeats}")
    return Round(kind, took, latencies, refused, rows, 1_000_000 * cpu / (len(latencies) + refused))


async def use_up(admission: Admission, token: TokenRecord) -> None:
    """Make the one request that a token may make."""
    admission.settle(Settlement((await admission.admit(token.value, opening())).opened))


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database-url", default="")
    parser.add_argument("--seconds", type=float, default=3, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    arguments = parser.parse_args()
    pricing.warm()
    with tempfile.TemporaryDirectory() as folder:
        settings = make_settings(Path(folder), database_url=arguments.database_url, log_level="warning")
        with opened(settings) as store:
            turns = [kind for _ in range(arguments.rounds) for kind in arguments.kinds]
            report([measure(store, kind, arguments.seconds) for kind in turns])


def report(rounds: Sequence[Round]) -> None:
    """Print a line for each kind, with the medians of its rounds, and the ratio."""
    names = ["kind", "admissions/s", "p50 ms", "p99 ms", "max ms", "refusals/s", "rows a round", "CPU µs"]
    print(line(names), line(["---"] * len(names)), sep="\n")
    for kind in dict.fromkeys(one.kind for one in rounds):
        mine = [one for one in rounds if one.kind == kind]

        def median(figure: Callable[[Round], float], mine: Sequence[Round] = mine) -> float:
            return statistics.median(map(figure, mine))

        times = [milliseconds(median(lambda one, at=at: percentiles(one.latencies)[at])) for at in range(3)]  # type: ignore[misc]
        per_second = f"{median(lambda one: len(one.latencies) / one.seconds):.0f}"
        refused, rows = f"{median(lambda one: one.refused / one.seconds):.0f}", f"{median(lambda one: one.rows):.0f}"
        print(line([kind, per_second, *times, refused, rows, f"{median(lambda one: one.cpu):.1f}"]))
    pairs = zip(*([one.cpu for one in rounds if one.kind == kind] for kind in ("loop", "untraced")), strict=False)
    ratios = [traced / untraced for traced, untraced in pairs]
    if ratios:
        print(f"loop to untraced, median of the pairs: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
