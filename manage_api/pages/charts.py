"""Charts: bars in inline SVG that stretch with the page, with their words around them in HTML, which stay readable.

A page has the same numbers in a table beside its chart.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import flask
from markupsafe import Markup, escape

from manage_api.pages import rendering
from store.clock import DAY, month_of

MAX_BARS = 1000
"""Bars of a chart at most: more are thinner than a pixel."""

COLOURS = 4
"""Series that have a colour of their own; those behind share the last one."""

_HEIGHT = 100
_WIDTH = 0.84
"""The width of a bar in the place of one."""


class _Piece(NamedTuple):
    """A part of a bar: its colour, its top and its height in the chart."""

    colour: int
    top: float
    height: float


class _Bar(NamedTuple):
    """A bar: its place from the left, its words and its parts, from the ground up."""

    place: int
    words: str
    pieces: Sequence[_Piece]


def bars(
    title: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[int]],
    shown: Callable[[int], object] = rendering.number,
) -> Markup:
    """Return a chart with a bar for each label, in which the values of all series, by their names, stand on each other.

    A value is 0 or more; `shown` writes one. There are MAX_BARS labels at most.
    """
    totals = [sum(values) for values in zip(*series.values(), strict=True)]
    most = max(totals, default=0)
    drawn = [_bar(place, label, series, most, shown) for place, label in enumerate(labels)]
    return Markup(  # noqa: S704 - a template, which escapes
        flask.render_template(
            "chart.html",
            title=title,
            bars=drawn,
            ends=(labels[0], labels[-1]) if labels else ("", ""),
            most=escape(shown(most)),
            legend=[(name, _colour(place)) for place, name in enumerate(series)] if len(series) > 1 else (),
            height=_HEIGHT,
            width=_WIDTH,
        )
    )


def steps(first: int, last: int, width: int) -> Sequence[int]:
    """Return the beginnings of all hours, days or weeks (`width`, in microseconds) from the first to the last one."""
    return range(first, last + 1, width)


def months(first: int, last: int) -> Sequence[int]:
    """Return the beginnings of all months from the first to the last one, as `clock.month_of` has them."""
    found = [first]
    while found[-1] < last:
        found.append(month_of(found[-1] + 31 * DAY))
    return found


def _bar(
    place: int, label: str, series: Mapping[str, Sequence[int]], most: int, shown: Callable[[int], object]
) -> _Bar:
    values = [(name, values[place]) for name, values in series.items()]
    pieces, ground = [], float(_HEIGHT)
    for number, (_, value) in enumerate(values):
        height = rendering.percentage(value, most)
        ground -= height
        if height:
            pieces.append(_Piece(_colour(number), round(ground, 2), height))
    words = ", ".join(_words(name, escape(shown(value))) for name, value in values)
    return _Bar(place, f"{label}: {words}", pieces)


def _words(name: str, shown: Markup) -> str:
    text = shown.striptags()
    return f"{text} {name}" if name else text


def _colour(place: int) -> int:
    return min(place + 1, COLOURS)
