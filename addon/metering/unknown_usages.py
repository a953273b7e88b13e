"""Logs the names in usages that are told in an unknown form, so that operators learn why a usage stays unknown."""

import logging
import re
import time
from collections.abc import Iterator, Mapping

_MOST_NAMES = 20
_MOST_FORMS = 100
"""Forms in a day that are logged."""

_DAY = 24 * 60 * 60

_WORD = re.compile(r"(?=.{1,40}$)[A-Za-z_]+[0-9]{0,2}[A-Za-z_]*")
"""Names of fields; no token or key has this form."""

_log = logging.getLogger(__name__)


class UnknownUsages:
    """The forms that were logged today: once each, in this process."""

    def __init__(self) -> None:
        self._day = 0
        self._logged: set[str] = set()

    def note(self, endpoint: str, usage: Mapping[str, object]) -> None:
        """Log a usage from which no units could be read, if it holds numbers and its form is new today."""
        names = sorted(_names_of_numbers(usage))[:_MOST_NAMES]
        form = f"{endpoint}: {', '.join(names)}"
        today = int(time.time()) // _DAY
        if today != self._day:
            self._day = today
            self._logged.clear()
        if names and form not in self._logged and len(self._logged) < _MOST_FORMS:
            self._logged.add(form)
            _log.warning("a usage has an unknown form, and stays unknown: %s", form)


def _names_of_numbers(usage: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    for name, value in usage.items():
        if not _WORD.fullmatch(name):
            continue
        if isinstance(value, dict) and not prefix:
            yield from _names_of_numbers(value, f"{name}.")
        elif isinstance(value, int | float) and value:
            yield f"{prefix}{name}"


unknown_usages = UnknownUsages()
"""The forms of this process."""
