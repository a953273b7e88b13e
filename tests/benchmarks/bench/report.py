"""Writes results as tables, and puts those into the page."""

import re
from collections.abc import Sequence
from functools import partial

from benchmarks.bench.contestants import CONTESTANTS, DUTIES
from benchmarks.bench.figures import (
    ADDON,
    AT_THE_END,
    DIRECT,
    EVENTS,
    LAYERS,
    MEMORY,
    OURS,
    PATHS,
    REFERENCE,
    TLS_KEPT,
    TLS_NEW,
    TWO_WORKERS,
    Results,
    load_at,
)

BUSY = 0.1
"""The share of the machine that others may take in a measurement before the report mentions it."""

_RATIOS = (
    *((f"CPU of a request, {load_at(number)}", load_at(number), "cpu_ms") for number in (1, 32, 256)),
    (f"requests a second, {load_at(32)}", load_at(32), "per_second"),
    (f"p50, {load_at(1)}", load_at(1), "p50_ms"),
    (f"p99, {load_at(32)}", load_at(32), "p99_ms"),
    ("CPU of a new client's request, TLS to the upstream", TLS_NEW, "cpu_ms"),
)
"""Of one worker on SQLite to the reference: what each is about, its measure and its figure."""

_BLOCK = re.compile(r"(<!-- figures: begin -->\n).*(<!-- figures: end -->\n)", re.DOTALL)
_ABOUT = {one.name: one.about for one in (*CONTESTANTS, *DUTIES)}


def tables(results: Results) -> str:
    """Return the whole report of results, as Markdown."""
    loads = [measure for measure in results.rounds if measure not in {PATHS, EVENTS, TLS_KEPT, TLS_NEW, MEMORY}]
    parts = [
        _machine(results),
        *_warnings(results),
        *results.notes,
        f"### One worker on SQLite, with and without the plain path\n\n{_ratios(results)}",
        f"### Requests on the plain path\n\n{_paths(results)}",
        *(f"### {measure}\n\n{_load(results, measure)}" for measure in loads),
        f"### Streams, ms of delay\n\n{_events(results)}",
        f"### An upstream with TLS\n\n{_tls(results)}",
        f"### Memory, MiB a process\n\n{_memory(results)}",
    ]
    return "\n\n".join(parts)


def put_into(page: str, text: str) -> str:
    """Return the page with a text between its marks. Raises ValueError where it has none."""
    if not _BLOCK.search(page):
        raise ValueError("the page has no marks for the figures")
    return _BLOCK.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page)


def _machine(results: Results) -> str:
    about = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    return f"Measured with: {about}."


def _warnings(results: Results) -> list[str]:
    shares = results.shares_of_others()
    busy = [share for share in shares if share > BUSY]
    if not busy:
        return []
    often = f"in {len(busy)} of {len(shares)} measurements others took more than {BUSY:.0%} of it"
    return [f"**The machine was busy**: {often}, up to {max(busy):.0%}."]


def _ratios(results: Results) -> str:
    ratio = results.ratio
    rows = [
        [f"{about}, / {REFERENCE}", *(number(ratio(measure, name, figure), ".2f") for name in (OURS, LAYERS))]
        for about, measure, figure in _RATIOS
    ]
    event = ratio(EVENTS, OURS, "event_cpu_us", LAYERS)
    addon = ratio(load_at(32), ADDON, "cpu_ms")
    workers = ratio(load_at(256), TWO_WORKERS, "per_second", OURS)
    rows += [
        [f"CPU of a streamed event, / {LAYERS}", number(event, ".2f"), "1.00"],
        [f"CPU of a request, {load_at(32)}, {ADDON} / {REFERENCE}", number(addon, ".2f"), number(None, "")],
        [f"requests a second, {load_at(256)}, {TWO_WORKERS} / {OURS}", number(workers, ".2f"), number(None, "")],
    ]
    return table(["", OURS, LAYERS], rows)


def _paths(results: Results) -> str:
    rows = []
    for name in results.contestants(PATHS):
        every, plain = (results.median(PATHS, name, figure) or 0 for figure in ("requests", "plain_requests"))
        rows.append([name, number(every, ",.0f"), number(plain / every, ".0%")])
    return table(["", "requests", "on the plain path"], rows)


def _load(results: Results, measure: str) -> str:
    against = f"/ {REFERENCE}"
    head = ["", "", "CPU ms", against, "requests/s", against, "p50 ms", "p99 ms", "generator", "upstream"]
    rows = []
    for name in results.contestants(measure):
        median, ratio = partial(results.median, measure, name), partial(results.ratio, measure, name)
        cpu = [number(median("cpu_ms"), ".2f"), number(ratio("cpu_ms"), ".2f")]
        throughput = [number(median("per_second"), ",.0f"), number(ratio("per_second"), ".2f")]
        latency = [number(median(figure), ".1f") for figure in ("p50_ms", "p99_ms")]
        shares = [number(median(figure), ".0%") for figure in ("load", "upstream")]
        rows.append([name, _ABOUT[name], *cpu, *throughput, *latency, *shares])
    return table(head, rows)


def _events(results: Results) -> str:
    figures = [f"{which}_{percentile}_ms" for which in ("first", "further") for percentile in ("p50", "p99")]
    head = ["", "first p50", "first p99", "further p50", "further p99", "CPU us an event"]
    cpu = {name: number(results.median(EVENTS, name, "event_cpu_us"), ".0f") for name in results.rounds.get(EVENTS, {})}
    direct = [*(number(results.median(EVENTS, DIRECT, figure), ".2f") for figure in figures), cpu.get(DIRECT, "-")]
    rows = [
        [name, *(number(results.added(EVENTS, name, figure), "+.2f") for figure in figures), cpu[name]]
        for name in results.contestants(EVENTS)
    ]
    return table(head, [["the upstream itself", *direct], *rows])


def _tls(results: Results) -> str:
    head = ["", "kept: p50 ms", "new: p50 ms", "kept: CPU ms", "new: CPU ms"]
    rows = [
        [
            name,
            *(number(results.median(measure, name, "p50_ms"), ".2f") for measure in (TLS_KEPT, TLS_NEW)),
            *(number(results.median(measure, name, "cpu_ms"), ".2f") for measure in (TLS_KEPT, TLS_NEW)),
        ]
        for name in results.contestants(TLS_NEW)
    ]
    return table(head, rows)


def _memory(results: Results) -> str:
    rounds = results.rounds.get(MEMORY, {})
    steps = dict.fromkeys(step for found in rounds.values() for one in found for step in one if step != AT_THE_END)
    rows = [
        [name, *(number(results.median(MEMORY, name, step), ".0f") for step in (AT_THE_END, *steps))]
        for name in results.contestants(MEMORY)
    ]
    return table(["", AT_THE_END, *(f"{step} requests" for step in steps)], rows)


def number(value: float | None, form: str) -> str:
    """Format a number in a form of `format`; return a dash for None."""
    return "-" if value is None else format(value, form)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
