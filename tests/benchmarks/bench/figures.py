"""The figures, round by round, their medians, and comparisons of those that were measured together."""

import json
import operator
import re
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Self

REFERENCE = "mitmdump"
"""The contestant that the others are compared with."""

OURS, LAYERS, ADDON, TWO_WORKERS = "launcher-sqlite", "layers", "mitmdump-addon", "2-workers-sqlite"
"""The contestants whose ratios are of most interest; LAYERS is OURS without the plain path."""

DIRECT = "direct"
"""Not a contestant: the upstream itself."""

PATHS = "paths"
EVENTS, TLS_NEW, TLS_KEPT, MEMORY = "events", "tls, new connections", "tls, kept connection", "memory"

AT_THE_END = "at the end of the rounds"
"""A figure of memory; the others have numbers of requests."""

_DEEP = re.compile(r"\n {4,}|\n {3}(?=\])")
"""The ends of lines within a contestant's rounds."""

type Round = dict[str, float]
"""The figures of one measurement, by name."""


def load_at(connections: int) -> str:
    """Return the name of the measure with so many connections."""
    return f"{connections} connection{'s' if connections > 1 else ''}"


@dataclass
class Results:
    """Each round of each contestant, by measure; the rounds of a measure have the same order for all."""

    machine: dict[str, str]
    notes: list[str] = field(default_factory=list)
    rounds: dict[str, dict[str, list[Round]]] = field(default_factory=dict)

    def add(self, measure: str, contestant: str, figures: Round) -> None:
        """Add a round."""
        rounded = {name: round(value, 4) for name, value in figures.items()}
        self.rounds.setdefault(measure, {}).setdefault(contestant, []).append(rounded)

    def contestants(self, measure: str) -> list[str]:
        """Return the names of the contestants, in the order of the first round."""
        return [name for name in self.rounds.get(measure, {}) if name != DIRECT]

    def median(self, measure: str, contestant: str, figure: str) -> float | None:
        """Return the median of a figure over the rounds; None where it was not measured."""
        found = self._values(measure, contestant, figure)
        return statistics.median(found) if found else None

    def ratio(self, measure: str, contestant: str, figure: str, base: str = REFERENCE) -> float | None:
        """Return the median of the ratios to another contestant, each within a round."""
        return self._compared(measure, contestant, base, figure, operator.truediv)

    def added(self, measure: str, contestant: str, figure: str) -> float | None:
        """Return the median of the differences to the upstream itself, each within a round."""
        return self._compared(measure, contestant, DIRECT, figure, operator.sub)

    def shares_of_others(self) -> list[float]:
        """Return the share of the machine that other processes took, for each measurement."""
        every = [one for contestants in self.rounds.values() for rounds in contestants.values() for one in rounds]
        return [one["others"] for one in every if "others" in one]

    def to_json(self) -> str:
        """Return everything as JSON; all rounds of a contestant are on one line."""
        return _DEEP.sub(" ", json.dumps(asdict(self), indent=1)) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the text of `to_json`."""
        return cls(**json.loads(text))

    def _compared(
        self, measure: str, contestant: str, base: str, figure: str, how: Callable[[float, float], float]
    ) -> float | None:
        ours, theirs = (self._values(measure, name, figure) for name in (contestant, base))
        pairs = zip(ours, theirs, strict=True) if ours and theirs else ()
        found = [how(one, other) for one, other in pairs]
        return statistics.median(found) if found else None

    def _values(self, measure: str, contestant: str, figure: str) -> list[float]:
        rounds = self.rounds.get(measure, {}).get(contestant, [])
        return [one[figure] for one in rounds if figure in one]
