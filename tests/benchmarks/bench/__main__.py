"""The command: `./run.sh bench`."""

import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click
from benchmarks.bench import plot, report
from benchmarks.bench.contestants import CONTESTANTS, DUTIES, NGINX, Contestant
from benchmarks.bench.figures import Results
from benchmarks.bench.machine import describe, version_of
from benchmarks.bench.measuring import FULL, QUICK, Benchmark, Plan
from support.gateway.processes import ROOT

DOCS = ROOT / "docs"
PAGE = "benchmarks.md"


@click.command()
@click.option("--quick", is_flag=True, help="See whether it works: one short round.")
@click.option("--rounds", type=click.IntRange(1), help="Medians are of so many.  [default: 5]")
@click.option("--only", metavar="NAMES", help="Measure these alone, with commas between them.")
@click.option(
    "--duties", is_flag=True, help="Also measure launchers without a duty, and with limits or budgets, for their cost."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The folder for the page, the plot and the figures.  [default: docs, for a whole run; else none]",
)
def main(quick: bool, rounds: int | None, only: str | None, duties: bool, output: Path | None) -> None:
    """Measure what a request costs through the gateway, beside plain mitmdump and nginx.

    It takes some 20 minutes, and a machine that does nothing else.
    """
    plan = QUICK if quick else FULL
    plan = plan if rounds is None else plan._replace(rounds=rounds)
    results = Results({**describe(), "rounds": str(plan.rounds)})
    contestants = _chosen((*CONTESTANTS, *DUTIES) if duties else CONTESTANTS, only)
    _measure(_installed(contestants, results), plan, results)
    print(report.tables(results))
    output = output or (None if quick or only else DOCS)
    if output is not None:
        _write(results, output)


def _chosen(contestants: Sequence[Contestant], only: str | None) -> Sequence[Contestant]:
    if only is None:
        return contestants
    names = only.split(",")
    known = {one.name: one for one in contestants}
    if unknown := set(names) - known.keys():
        raise click.UsageError(f"There is no {', '.join(sorted(unknown))}, only {', '.join(known)}.")
    return [one for one in contestants if one.name in names]


def _installed(contestants: Sequence[Contestant], results: Results) -> Sequence[Contestant]:
    """Leave nginx out where it is not installed; report that, or its version."""
    if all(one.name != "nginx" for one in contestants):
        return contestants
    if NGINX is not None:
        results.machine["nginx"] = version_of(NGINX, "-v")
        return contestants
    results.notes.append("nginx is not installed, and was left out.")
    return [one for one in contestants if one.name != "nginx"]


def _measure(contestants: Sequence[Contestant], plan: Plan, results: Results) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-") as folder,
        ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as pool,
    ):
        Benchmark(contestants, plan, results, pool).run(Path(folder))


def _write(results: Results, folder: Path) -> None:
    (folder / "benchmarks.json").write_text(results.to_json())
    (folder / "benchmarks.svg").write_text(plot.draw(results))
    (folder / PAGE).write_text(report.put_into((DOCS / PAGE).read_text(), report.tables(results)))


if __name__ == "__main__":
    main()
