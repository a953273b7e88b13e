"""Compares an export with the ledger, group by group: a day and a model, or a day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from manage_api.cli.reconciliation.cells import EXACT
from manage_api.cli.reconciliation.columns import COST
from manage_api.cli.reconciliation.provider_export import GroupKey
from store.money import usd
from store.reports.usage_query import Dimension
from store.reports.usage_report import UsageGroup
from store.reports.usage_totals import UsageSums

_NOTHING = UsageSums.total(())


@dataclass(frozen=True, slots=True)
class Compared:
    """The numbers of both sides. A number that one side does not have counts as 0."""

    export: Mapping[str, Decimal]
    ledger: UsageSums

    def exported(self, number: str) -> Decimal:
        """Return a number of the export."""
        return self.export.get(number, Decimal())

    def counted(self, number: str) -> Decimal:
        """Return a number of the ledger."""
        return usd(self.ledger.cost) if number == COST else Decimal(getattr(self.ledger, number))

    def difference(self, number: str) -> Decimal:
        """Return how much more the export has."""
        return EXACT.subtract(self.exported(number), self.counted(number))


@dataclass(frozen=True, slots=True)
class Comparison:
    """All groups of either side by `by`, and the numbers that are compared, from `start` until just before `end`.

    Costs of a group differ where more than `tolerance` US dollars lie between them.
    """

    by: Sequence[Dimension]
    numbers: Sequence[str]
    tolerance: Decimal
    start: int
    end: int
    groups: Mapping[GroupKey, Compared]

    def differing(self, group: Compared) -> Sequence[str]:
        """Return the numbers of a group that differ."""
        return [
            number
            for number in self.numbers
            if abs(group.difference(number)) > (self.tolerance if number == COST else 0)
        ]

    @property
    def different(self) -> Mapping[GroupKey, Compared]:
        """The groups in which a number differs."""
        return {key: group for key, group in self.groups.items() if self.differing(group)}

    @property
    def totals(self) -> Compared:
        """The sums of all groups."""
        export: dict[str, Decimal] = {}
        for group in self.groups.values():
            for number, value in group.export.items():
                export[number] = EXACT.add(export.get(number, Decimal()), value)
        return Compared(export, UsageSums.total(group.ledger for group in self.groups.values()))


def pairs(
    export: Mapping[GroupKey, Mapping[str, Decimal]], ledger: Sequence[UsageGroup]
) -> Mapping[GroupKey, Compared]:
    """Return the groups of an export and of a report side by side, in order. Names of models match exactly."""
    counted = {GroupKey(group.day or 0, group.model): group.sums for group in ledger}
    keys = sorted({*export, *counted}, key=lambda key: (key.day, key.model or ""))
    return {key: Compared(export.get(key, {}), counted.get(key, _NOTHING)) for key in keys}
