"""The metrics as families of Prometheus's own library, made again for each scrape.

Requests, tokens, cost and refusals are the ledger's; all other figures are those that the processes have written. A
metric's name, labels and text stand here alone; `docs/metrics.md` is tested against them.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from store.database import Database
from store.ledger import totals
from store.ledger.usage import COST_UNIT
from store.metrics import process_figures
from store.metrics.figures import LATENCIES, SHORT, SUM, Counts, plus
from store.metrics.process_figures import ENDED
from store.runtime.redaction import mask_secrets
from store.version import __version__

_PREFIX = "llm_proxy_"
_NAMES = "SELECT id, name FROM project UNION ALL SELECT id, name FROM former_project"
_LATENCY_LABELS = ("endpoint", "status")


class _Histogram(NamedTuple):
    """A histogram of the processes: the name of its figures, its own name, and the rest."""

    figures: str
    name: str
    text: str
    labels: Sequence[str]
    bounds: Sequence[float]


_HISTOGRAMS = (
    _Histogram(
        "request",
        "request_duration_seconds",
        "Time from the arrival of an admitted request to the end of its response.",
        _LATENCY_LABELS,
        LATENCIES,
    ),
    _Histogram(
        "first_byte",
        "request_first_byte_seconds",
        "Time from the arrival of an admitted request until the headers of its response came.",
        _LATENCY_LABELS,
        LATENCIES,
    ),
    _Histogram(
        "added",
        "added_latency_seconds",
        "Time from the arrival of a request until it was sent upstream, without the time that its body took to come.",
        _LATENCY_LABELS[:1],
        SHORT,
    ),
    _Histogram(
        "admission",
        "store_admission_duration_seconds",
        "Time that the store took to decide on a request, and to commit that.",
        (),
        SHORT,
    ),
)

_KINDS = ("connect", "timeout", "no_response", "cut", "key_rejected", "4xx", "5xx")
_QUEUES = ("admissions", "slots", "entries")


def registry_of(database: Database) -> CollectorRegistry:
    """Return a registry whose metrics are read from a store at each scrape. That raises StoreUnavailable."""
    registry = CollectorRegistry()
    registry.register(_Metrics(database))
    return registry


class _Metrics(Collector):
    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterator[Metric]:
        """Return nothing: the library would read the metrics to find their names."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Return all metrics as they are now."""
        yield from self._of_ledger()
        yield from self._of_processes()
        size = self._database.log_size()
        if size is not None:
            yield GaugeMetricFamily(f"{_PREFIX}sqlite_wal_bytes", "Size of the log of the SQLite database.", size)

    def _of_ledger(self) -> Iterator[Metric]:
        usage, refusals = totals.read(self._database)
        projects = {project_id for project_id, _ in (*usage, *refusals)}
        by_project: Counter[str] = Counter()
        tokens = _counter("tokens", "Tokens of settled requests, by project and model.", "project_id", "model", "type")
        cost = _counter("cost_usd", "Cost of settled requests in US dollars.", "project_id", "model")
        for (project_id, model), total in usage.items():
            by_project[project_id] += total.requests
            tokens.add_metric([project_id, model, "input"], total.input_tokens)
            tokens.add_metric([project_id, model, "output"], total.output_tokens)
            cost.add_metric([project_id, model], total.cost / COST_UNIT)
        requests = _counter("requests", "Settled requests, by project.", "project_id")
        for project_id, number in by_project.items():
            requests.add_metric([project_id], number)
        refused = _counter("refusals", "Refused requests of known tokens, by project and code.", "project_id", "code")
        for (project_id, code), number in refusals.items():
            refused.add_metric([project_id, code], number)
        yield from (requests, tokens, cost, refused, self._names(projects))

    def _names(self, projects: set[str]) -> Metric:
        """Return the names of the projects that have totals."""
        found = InfoMetricFamily(f"{_PREFIX}project", "Names of projects, by id.", labels=["project_id"])
        with self._database.read():
            names: dict[str, str] = dict(self._database.execute(_NAMES, ()))
        for project_id in sorted(projects & names.keys()):
            found.add_metric([project_id], {"name": mask_secrets(names[project_id])})
        return found

    def _of_processes(self) -> Iterator[Metric]:
        counts: Counts = {}
        present: Counter[str] = Counter()
        versions: Counter[str] = Counter()
        with self._database.read():
            for instance_id, snapshot in process_figures.read(self._database):
                counts = plus(counts, snapshot.counts)
                present.update(snapshot.present)
                versions.update([snapshot.version] if instance_id != ENDED else [])
        for histogram in _HISTOGRAMS:
            yield _family(histogram, counts.get(histogram.figures, {}))
        errors = _counter("errors", "Requests that the gateway answered, or ended, with an error of its own.", "code")
        for code, cells in counts.get("errors", {}).items():
            errors.add_metric([code], cells[""])
        upstream = _counter("upstream_errors", "Admitted requests that failed upstream, by kind.", "kind")
        for kind in _KINDS:
            upstream.add_metric([kind], counts.get("upstream_errors", {}).get(kind, {}).get("", 0))
        yield from (errors, upstream, *_gauges(present), *_processes(versions))


def _gauges(present: Mapping[str, int]) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        f"{_PREFIX}requests_in_flight", "Requests under way, open WebSockets among them.", present["in_flight"]
    )
    yield GaugeMetricFamily(f"{_PREFIX}websockets_open", "WebSockets that are open.", present["websockets"])
    queues = GaugeMetricFamily(
        f"{_PREFIX}queue_length",
        "Admissions that wait for the store or for a slot, and entries that are not written yet.",
        labels=["queue"],
    )
    for queue in _QUEUES:
        queues.add_metric([queue], present[f"queue {queue}"])
    yield queues


def _processes(versions: Mapping[str, int]) -> Iterator[Metric]:
    running = GaugeMetricFamily(f"{_PREFIX}processes", "Processes that serve requests.", labels=["version"])
    build = InfoMetricFamily(f"{_PREFIX}build", "Versions that run.", labels=["component"])
    build.add_metric(["management"], {"version": __version__})
    for version, number in (versions or {__version__: 0}).items():
        running.add_metric([version], number)
    for version in versions:
        build.add_metric(["proxy"], {"version": version})
    yield from (running, build)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"{_PREFIX}{name}", text, labels=labels)


def _family(histogram: _Histogram, counts: Mapping[str, Mapping[str, float]]) -> Metric:
    family = HistogramMetricFamily(f"{_PREFIX}{histogram.name}", histogram.text, labels=histogram.labels)
    for labels, cells in counts.items():
        family.add_metric(labels.split(), _buckets(histogram.bounds, cells), cells[SUM])
    return family


def _buckets(bounds: Sequence[float], cells: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return the numbers up to each bound. One of another version's bounds is counted at the next one."""
    edges = [*bounds, math.inf]
    counts = [0.0] * len(edges)
    for name, count in cells.items():
        if name != SUM:
            counts[bisect_left(edges, float(name))] += count
    sums = [sum(counts[: place + 1]) for place in range(len(edges))]
    return [(str(edge) if edge < math.inf else "+Inf", total) for edge, total in zip(edges, sums, strict=True)]
