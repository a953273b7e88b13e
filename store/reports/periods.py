"""Divides time into the days, weeks or months of a time zone. Days have 23, 24 or 25 hours, or what the zone says."""

import itertools
from collections.abc import Callable, Iterator
from datetime import date, timedelta, tzinfo
from typing import NamedTuple, Self

from store.clock import DAY, date_in, midnight

_EPOCH = date(1970, 1, 1)

_SLACK = timedelta(days=2)
"""Days before the first and after the last one, for weeks and months that go on there."""


class Period(NamedTuple):
    """Consecutive days of a time zone, from the time `begins` until just before `ends` (microseconds).

    `label` is the first date, as its midnight in UTC: `clock.to_date`, `week_of` and `month_of` are right for it.
    """

    label: int
    begins: int
    ends: int

    def within(self, start: int, end: int) -> Self:
        """Return the part between two times."""
        return self._replace(begins=max(self.begins, start), ends=min(self.ends, end))


def periods(start: int, end: int, zone: tzinfo, key: Callable[[int], object]) -> Iterator[Period]:
    """Return the periods that have a part between two times: consecutive days whose labels have the same key.

    The first and the last one are whole at least for two days beyond these times.
    """
    for _, group in itertools.groupby(_days(start, end, zone), lambda day: key(day.label)):
        days = list(group)
        period = days[0]._replace(ends=days[-1].ends)
        if period.begins < end and period.ends > start:
            yield period


def label_at(moment: int, zone: tzinfo) -> int:
    """Return the label of a day by a time in it."""
    return _label(date_in(moment, zone))


def _days(start: int, end: int, zone: tzinfo) -> Iterator[Period]:
    """Return each day around two times. One that the zone left out is omitted, as it has no time."""
    day, last = date_in(start, zone) - _SLACK, date_in(end, zone) + _SLACK
    begins = midnight(day, zone)
    while day <= last:
        label, day = _label(day), day + timedelta(days=1)
        ends = midnight(day, zone)
        if begins < ends:
            yield Period(label, begins, ends)
        begins = ends


def _label(day: date) -> int:
    return (day - _EPOCH).days * DAY
