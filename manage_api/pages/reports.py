"""`/reports`: usage and cost, grouped and charted; the address of a report is all that it takes to see it again."""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import flask
from markupsafe import Markup
from werkzeug.wrappers import Response as BaseResponse

from manage_api import export, schemas, words
from manage_api.pages import charts, filters, rendering
from store import clock
from store.clock import DAY, HOUR, date_in, midnight, to_date, to_rfc3339, to_rfc3339_exact
from store.errors import InvalidRequest
from store.management import names
from store.management.tokens import TokenRecord
from store.reports import time_zones
from store.reports.usage_query import Dimension, UsageFilter
from store.reports.usage_report import UsageGroup, UsageReport, UsageReports
from store.reports.usage_totals import UsageSums
from store.store import Store

PARAMETERS = ("project_id", "token_id", "model", "endpoint", "from", "to", "timezone", "chart")
"""The parameters of the query beside `by`."""

type Query = Mapping[str, Any]

PRESETS: Sequence[tuple[str, Query]] = (
    ("This month by day", {"by": ["day"], "from": "this month"}),
    ("This month by project", {"by": ["project"], "from": "this month"}),
    ("Last month by project and model", {"by": ["project", "model"], "from": "last month", "to": "this month"}),
    ("7 days by day and model", {"by": ["day", "model"], "from": "7d"}),
    ("30 days by token", {"by": ["token"], "from": "30d"}),
    ("Today by hour", {"by": ["hour"], "from": "today"}),
    ("All months", {"by": ["month"]}),
)
"""Reports that a link shows; the first one is shown at the beginning."""

SHOWN = 500
"""Groups that a page shows at most; a file has them all."""

_STEPS: Mapping[str, Callable[[int, int], Sequence[int]]] = {
    "hour": lambda first, last: charts.steps(first, last, HOUR),
    "day": lambda first, last: charts.steps(first, last, DAY),
    "week": lambda first, last: charts.steps(first, last, 7 * DAY),
    "month": charts.months,
}
"""The times that a report may be grouped by, the finest first, and all of them between two."""

_VALUES: Mapping[str, Callable[[UsageSums], int]] = {
    "cost": lambda sums: sums.cost,
    "requests": lambda sums: sums.requests,
    "tokens": lambda sums: sums.input_tokens + sums.output_tokens,
}
"""The values that a chart may show."""


class _Asked(NamedTuple):
    """A report that is asked for."""

    by: Sequence[Dimension]
    about: UsageFilter
    zone: ZoneInfo | None
    chart: str


def blueprint(store: Store) -> flask.Blueprint:
    """Make the reports of a store."""
    pages = _Pages(store)
    routes = flask.Blueprint("reports", __name__)
    routes.get("/reports")(pages.index)
    routes.get("/reports.csv")(pages.as_csv)
    return routes


class _Pages:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._reports = UsageReports(store)

    def index(self) -> BaseResponse | str | tuple[str, int]:
        if not flask.request.args:
            return flask.redirect(filters.address(".index", PRESETS[0][1]), 303)
        try:
            asked = self._asked()
            if filters.has_value_of(asked.about.token_id):
                return flask.redirect(filters.address(".index", _query(), token_id=asked.about.token_id), 303)
            report = self._reports.report(asked.by, asked.about, asked.zone)
        except InvalidRequest as error:
            return self._page(error.message, filters.tokens_of_name(self._store)), error.status
        return self._page(None, (), asked, report)

    def as_csv(self) -> flask.Response:
        asked = self._asked()
        form = filters.choice("format", "Format", tuple(export.CSV_ENCODINGS)) or "csv"
        report = self._reports.report(asked.by, asked.about, asked.zone)
        headers = {"Content-Disposition": 'attachment; filename="usage.csv"'}
        return flask.Response(export.usage_as_csv(report, asked.by, form), mimetype="text/csv", headers=headers)

    def _asked(self) -> _Asked:
        zone = _zone()
        return _Asked(
            _by(),
            UsageFilter(
                start=filters.moment("from", "From", zone or UTC),
                end=filters.moment("to", "Before", zone or UTC),
                project_id=filters.project_id(),
                token_id=filters.token_id(self._store),
                model=filters.text("model"),
                endpoint=filters.text("endpoint"),
            ),
            zone,
            filters.choice("chart", "Chart", tuple(_VALUES)) or "cost",
        )

    def _page(
        self,
        message: str | None,
        several: Sequence[TokenRecord] = (),
        asked: _Asked | None = None,
        report: UsageReport | None = None,
    ) -> str:
        with self._store.database.read():
            projects = names.of_present_projects(self._store.database)
            groups = report.groups[:SHOWN] if report else ()
            tokens = names.present_tokens(self._store.database, {each.token_id for each in groups if each.token_id})
        shown = {} if report is None or asked is None else _shown(asked, report, groups)
        return flask.render_template(
            "reports/index.html",
            message=message,
            several=several,
            report=report,
            given=filters.present(*PARAMETERS),
            query=_query(),
            by=asked.by if asked else flask.request.args.getlist("by"),
            dimensions=[each.value for each in Dimension],
            presets=PRESETS,
            zones=sorted(time_zones.names()),
            choices=filters.choices(self._store, projects),
            charts=[(name, name) for name in _VALUES],
            projects=projects,
            tokens=tokens,
            **shown,
        )


def _query() -> dict[str, Any]:
    """Return the parameters of the query that are given."""
    return {**filters.present(*PARAMETERS), "by": [name for name in flask.request.args.getlist("by") if name]}


def _by() -> Sequence[Dimension]:
    asked = [name for text in flask.request.args.getlist("by") for name in text.split(",") if name]
    try:
        found = {Dimension(name) for name in asked}
    except ValueError:
        raise InvalidRequest("A report is grouped by the choices of the form.") from None
    return [dimension for dimension in Dimension if dimension in found]


def _zone() -> ZoneInfo | None:
    given = filters.text("timezone")
    try:
        return None if given is None else time_zones.time_zone(given)
    except ValueError:
        raise InvalidRequest("“Time zone” must be the name of one, such as Europe/Berlin.") from None


def _shown(asked: _Asked, report: UsageReport, groups: Sequence[UsageGroup]) -> Mapping[str, object]:
    """Return the variables of the template that show a report."""
    return {
        "titles": words.titles_of_sums({**schemas.usage_sums(report.totals), **_costs(report.totals)}),
        "totals": _values(report.totals),
        "rows": [(group, _times(group), _values(group.sums), _requests_of(group, asked)) for group in groups],
        "chart": _chart(asked, report.groups),
    }


def _values(sums: UsageSums) -> Mapping[str, Markup]:
    """Return the sums as the table shows them, by their names."""
    known, costs = schemas.usage_sums(sums), _costs(sums)
    return {
        name: rendering.dollars(costs[name]) if name in costs else rendering.number(known[name])  # type: ignore[arg-type]
        for name in words.SUMS
    }


def _costs(sums: UsageSums) -> Mapping[str, int | None]:
    """Return the sums that are costs, in COST_UNITs; None for one that is not known."""
    cost = None if sums.cost_usd is None else sums.cost
    return {"cost_usd": cost, "told_cost_usd": sums.told_cost, "cost_where_told_usd": sums.cost_where_told}


def _times(group: UsageGroup) -> Mapping[str, str]:
    """Return the times of a group in words, by their dimension."""
    return {name: _label(name, at) for name in _STEPS if (at := getattr(group, name)) is not None}


def _label(name: str, at: int) -> str:
    if name == "hour":
        return f"{to_rfc3339(at)[:16].replace('T', ' ')} UTC"
    return to_date(at)[:7] if name == "month" else to_date(at)


def _requests_of(group: UsageGroup, asked: _Asked) -> dict[str, str] | None:
    """Return the filters of the requests of a group, for a link to them; None for those without a model."""
    if Dimension.MODEL in asked.by and group.model is None:
        return None
    spans = [_span(name, at, asked.zone) for name in _STEPS if (at := getattr(group, name)) is not None]
    starts = [asked.about.start or 0, *(start for start, _ in spans)]
    ends = [clock.NEVER if asked.about.end is None else asked.about.end, *(end for _, end in spans)]
    return {
        name: text
        for name, text in {
            "project_id": group.project_id or asked.about.project_id,
            "token_id": group.token_id or asked.about.token_id,
            "model": group.model or asked.about.model,
            "endpoint": group.endpoint or asked.about.endpoint,
            "from": to_rfc3339_exact(max(starts)) if max(starts) else None,
            "to": to_rfc3339_exact(min(ends)) if min(ends) < clock.NEVER else None,
        }.items()
        if text
    }


def _span(name: str, at: int, zone: ZoneInfo | None) -> tuple[int, int]:
    """Return the beginning and the end of an hour, or of a day, week or month of a time zone."""
    if name == "hour":
        return at, at + HOUR
    days = {"day": at + DAY, "week": at + 7 * DAY, "month": charts.months(at, at + 1)[-1]}
    first, last = (midnight(date_in(each, UTC), zone or UTC) for each in (at, days[name]))
    return first, last


def _chart(asked: _Asked, groups: Sequence[UsageGroup]) -> Markup | None:
    """Return the chart of a report by its finest time; None for one without a time, or with too many of them."""
    time = next((name for name in _STEPS if name in asked.by), None)
    if time is None or not groups:
        return None
    found = [getattr(group, time) for group in groups]
    places = _STEPS[time](min(found), max(found))
    if len(places) > charts.MAX_BARS:
        return None
    value, name_of = _VALUES[asked.chart], _namer(asked.by)
    totals: Counter[str] = Counter()
    sums: Counter[tuple[str, int]] = Counter()
    for group, at in zip(groups, found, strict=True):
        totals[name_of(group)] += value(group.sums)
        sums[name_of(group), at] += value(group.sums)
    named = [name for name, total in totals.most_common() if total]
    if not named:
        return None
    kept = named if len(named) <= charts.COLOURS else named[: charts.COLOURS - 1]
    series = {name: [sums[name, at] for at in places] for name in kept}
    if others := named[len(kept) :]:
        rest = Counter[int]()
        for name, at in itertools.product(others, set(found)):
            rest[at] += sums[name, at]
        series["all others"] = [rest[at] for at in places]
    title = f"{asked.chart.capitalize()} by {time}"
    shown = rendering.dollars if asked.chart == "cost" else rendering.number
    return charts.bars(title, [_label(time, at) for at in places], series, shown)


def _namer(by: Sequence[Dimension]) -> Callable[[UsageGroup], str]:
    """Return the name of a group's series: by the first dimension that is no time."""
    wanted = next((dimension for dimension in by if dimension not in _STEPS), None)
    match wanted:
        case Dimension.PROJECT:
            return lambda group: group.project_name or group.project_id or ""
        case Dimension.TOKEN:
            return lambda group: group.token_name or group.token_id or ""
        case Dimension.MODEL:
            return lambda group: group.model or "no model"
        case Dimension.ENDPOINT:
            return lambda group: group.endpoint or ""
        case _:
            return lambda _: ""
