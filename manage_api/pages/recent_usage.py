"""The usage of the last days, of a project or a token: its days for a chart, and its models."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from manage_api.pages import charts, rendering
from store import clock
from store.clock import DAY
from store.reports.usage_query import Dimension, UsageFilter
from store.reports.usage_report import UsageGroup, UsageReports
from store.reports.usage_totals import UsageSums

DAYS = 30


class RecentUsage(NamedTuple):
    """The sums of DAYS days: of each day (UTC), those without requests too, and of each model, the dearest first.

    Days are their dates; an unknown model is None.
    """

    days: Sequence[tuple[str, UsageSums]]
    models: Sequence[tuple[str | None, UsageSums]]
    totals: UsageSums

    @property
    def charts(self) -> Sequence[Markup]:
        """The charts of the days: of requests, and of the cost where there is any."""
        shown: list[tuple[str, str, Callable[[int], Markup]]] = [("Requests a day", "requests", rendering.number)]
        if self.totals.cost:
            shown.append(("Cost a day", "cost", rendering.dollars))
        dates = [date for date, _ in self.days]
        return [
            charts.bars(title, dates, {"": [getattr(sums, name) for _, sums in self.days]}, write)
            for title, name, write in shown
        ]


def read(reports: UsageReports, about: UsageFilter) -> RecentUsage:
    """Add up the last days, today's included, of what a filter selects. Raises StoreUnavailable."""
    last = clock.now() // DAY * DAY
    first = last - (DAYS - 1) * DAY
    report = reports.report((Dimension.DAY, Dimension.MODEL), dataclasses.replace(about, start=first))
    days = [(clock.to_date(day), _sum(report.groups, day)) for day in range(first, last + 1, DAY)]
    by_model: dict[str | None, list[UsageSums]] = {}
    for group in report.groups:
        if not group.sums.requests:  # refusals alone, which have no model
            continue
        by_model.setdefault(group.model, []).append(group.sums)
    models = [(model, UsageSums.total(parts)) for model, parts in by_model.items()]
    models.sort(key=lambda pair: (-pair[1].cost, -pair[1].requests, pair[0] or ""))
    return RecentUsage(days, models, report.totals)


def _sum(groups: Sequence[UsageGroup], day: int) -> UsageSums:
    return UsageSums.total(group.sums for group in groups if group.day == day)
