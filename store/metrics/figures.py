"""Figures: what one process counts in memory, at a microsecond a request. Its heartbeat writes them into the store.

They have a plain form, so that those of any number of processes, of any version, can be added up: numbers under the
name of a metric, its labels, and a bucket or "".
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

LATENCIES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper bounds of the buckets (seconds) of what includes the upstream: models answer within 50 ms to 10 minutes."""

SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Those of what the gateway adds itself."""

LAST = "+Inf"
"""The bucket of what is longer than all bounds."""

SUM = "sum"

type Counts = dict[str, dict[str, dict[str, float]]]
"""Numbers by metric, by labels (their values, separated by spaces) and by bucket; a counter has the bucket ""."""


class Histogram:
    """Durations by buckets. Adding one takes no lock: it is for one thread, and others may read at any time."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._total += seconds

    def cells(self) -> dict[str, float]:
        """Return the numbers of the buckets that have any, by their bounds, and the sum of the durations."""
        names = [*map(str, self._bounds), LAST]
        return {SUM: self._total, **{name: count for name, count in zip(names, self._counts, strict=True) if count}}


class Latencies:
    """The latencies of the requests of an endpoint that ended with a class of statuses, in seconds."""

    __slots__ = ("added", "first_byte", "whole")

    def __init__(self, added: Histogram) -> None:
        self.added = added
        """From a request's arrival until it is sent upstream: the same for all classes of an endpoint."""
        self.whole = Histogram(LATENCIES)
        """From a request's arrival to its end."""
        self.first_byte = Histogram(LATENCIES)
        """From its arrival until the headers of its response came."""


class Figures:
    """The figures of one process. They are counted in its event loop, and read by its housekeeping."""

    def __init__(self) -> None:
        self._latencies: dict[tuple[str, str], Latencies] = {}
        self._added: dict[str, Histogram] = {}
        self._counters: dict[tuple[str, str], int] = {}
        self.admissions = Histogram(SHORT)
        """The times that the store took to decide on a request: from its submission to the commit."""
        self.gauges: dict[str, Callable[[], int]] = {}
        """Functions that return a present number, by metric and label. They are called from another thread."""

    def latencies(self, endpoint: str, status: str) -> Latencies:
        """Return the latencies of an endpoint, and a class of statuses such as `2xx`, to add to."""
        found = self._latencies.get((endpoint, status))
        if found is None:
            added = self._added.setdefault(endpoint, Histogram(SHORT))
            found = self._latencies[endpoint, status] = Latencies(added)
        return found

    def count(self, metric: str, label: str) -> None:
        """Count an event."""
        key = metric, label
        self._counters[key] = self._counters.get(key, 0) + 1

    def counts(self) -> Counts:
        """Return all that was counted so far; in any thread."""
        found: Counts = {"admission": {"": self.admissions.cells()}}
        for (endpoint, status), latencies in [*self._latencies.items()]:
            for metric, histogram in (("request", latencies.whole), ("first_byte", latencies.first_byte)):
                found.setdefault(metric, {})[f"{endpoint} {status}"] = histogram.cells()
        for endpoint, histogram in [*self._added.items()]:
            found.setdefault("added", {})[endpoint] = histogram.cells()
        for (metric, label), count in [*self._counters.items()]:
            found.setdefault(metric, {})[label] = {"": count}
        return found

    def present(self) -> dict[str, int]:
        """Return the present numbers, by metric and label; in any thread."""
        return {name: gauge() for name, gauge in self.gauges.items()}


def plus(left: Counts, right: Counts, sign: int = 1) -> Counts:
    """Return the sums of two figures, or with the sign -1 their differences."""
    return {
        metric: {
            labels: _cells(left.get(metric, {}).get(labels, {}), right.get(metric, {}).get(labels, {}), sign)
            for labels in {**left.get(metric, {}), **right.get(metric, {})}
        }
        for metric in {**left, **right}
    }


def _cells(left: Mapping[str, float], right: Mapping[str, float], sign: int) -> dict[str, float]:
    return {name: left.get(name, 0) + sign * right.get(name, 0) for name in {**left, **right}}
