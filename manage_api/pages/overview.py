"""`/`: the overview: what was used and what it cost, what needs an operator, and the processes that serve."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import flask

from manage_api.pages import charts, rendering
from manage_api.pages.processes import running
from store import clock
from store.clock import HOUR
from store.errors import InvalidRequest
from store.management.projects import Projects
from store.reports import attention
from store.reports.overview import PERIODS, Overview, Period, Sums
from store.store import Store

START = "/start"
"""The page that leads a newcomer to the first request."""

_TITLES: Mapping[int, str] = {1: "Today", 7: "7 days", 30: "30 days"}
_BEFORE: Mapping[int, str] = {1: "yesterday until this hour", 7: "the 7 days before", 30: "the 30 days before"}


class _Figure(NamedTuple):
    """A sum of the period beside that of the one before, and its chart."""

    title: str
    of: Callable[[Sums], int]
    shown: Callable[[int], object]
    series: Mapping[str, Callable[[Sums], int]]


_FIGURES = (
    _Figure("Cost", lambda sums: sums.cost, rendering.dollars, {"": lambda sums: sums.cost}),
    _Figure("Requests", lambda sums: sums.requests, rendering.number, {"": lambda sums: sums.requests}),
    _Figure(
        "Tokens",
        lambda sums: sums.tokens,
        rendering.number,
        {"input": lambda sums: sums.input_tokens, "output": lambda sums: sums.output_tokens},
    ),
    _Figure("Refused requests", lambda sums: sums.refused, rendering.number, {"": lambda sums: sums.refused}),
)


def blueprint(store: Store, overview: Overview) -> flask.Blueprint:
    """Make the overview of a store."""
    routes = flask.Blueprint("overview", __name__)
    projects = Projects(store)

    @routes.get("/")
    def index() -> str:
        if not projects.exist():
            return flask.render_template("overview/new.html", start=START)
        period = overview.period(_days(flask.request.args.get("days", "1")))
        return flask.render_template(
            "overview/index.html",
            period=period,
            titles=_TITLES,
            before=_BEFORE[period.days],
            labels=_labels(period),
            figures=[_shown(figure, period) for figure in _FIGURES],
            attention=attention.read(store),
            near_end=attention.NEAR_END,
            processes=running(store.database),
        )

    return routes


def _days(text: str) -> int:
    """Return the days of a period. Raises InvalidRequest."""
    found = {str(days): days for days in PERIODS}.get(text)
    if found is None:
        raise InvalidRequest(f"The parameter 'days' must be one of {', '.join(map(str, PERIODS))}.")
    return found


def _labels(period: Period) -> list[str]:
    if period.width == HOUR:
        return [clock.to_rfc3339(step)[11:16] for step in period.steps]
    return [clock.to_date(step) for step in period.steps]


def _shown(figure: _Figure, period: Period) -> Mapping[str, object]:
    """Return what the template shows of a figure."""
    steps = period.steps.values()
    series = {name: [max(value(sums), 0) for sums in steps] for name, value in figure.series.items()}
    now, before = figure.of(period.total), figure.of(period.before)
    return {
        "title": figure.title,
        "shown": figure.shown(now),
        "change": _change(now, before),
        "before": figure.shown(before),
        "values": [figure.shown(figure.of(sums)) for sums in steps],
        "chart": charts.bars(
            f"{figure.title} by {'hour' if period.width == HOUR else 'day'}, UTC", _labels(period), series, figure.shown
        ),
    }


def _change(now: int, before: int) -> str:
    """Return the change from one period to the next in words; empty where there is none to tell."""
    if not before or now == before:
        return ""
    percent = round(abs(now - before) * 100 / before)
    way = "more" if now > before else "less"
    return f"{percent:,} % {way}" if percent < 1000 else f"{round(now / before):,} times as much"  # noqa: PLR2004
