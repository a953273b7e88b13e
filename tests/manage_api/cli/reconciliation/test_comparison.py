from decimal import Decimal

from manage_api.cli.reconciliation.comparison import Compared, Comparison, pairs
from manage_api.cli.reconciliation.provider_export import GroupKey
from store.clock import DAY
from store.ledger.usage import COST_UNIT
from store.reports.usage_query import Dimension
from store.reports.usage_report import UsageGroup
from store.reports.usage_totals import UsageSums

NOTHING = UsageSums.total(())


def comparison(cost: str, *, tolerance: str = "0") -> Comparison:
    """One group of two requests, which cost 1 USD by the ledger."""
    sums = NOTHING._replace(requests=2, observed=2, cost=COST_UNIT)
    export = {GroupKey(DAY, "m"): {"requests": Decimal(2), "cost_usd": Decimal(cost)}}
    groups = pairs(export, [UsageGroup(sums, day=DAY, model="m")])
    by = (Dimension.DAY, Dimension.MODEL)
    return Comparison(by, ["requests", "cost_usd"], Decimal(tolerance), DAY, 2 * DAY, groups)


def test_groups_of_both_sides_are_paired_in_order() -> None:
    export: dict[GroupKey, dict[str, Decimal]] = {GroupKey(DAY, "b"): {}, GroupKey(0, "z"): {}}
    ledger = [UsageGroup(NOTHING, day=DAY, model=model) for model in ("b", "a", None)]
    assert list(pairs(export, ledger)) == [(0, "z"), (DAY, None), (DAY, "a"), (DAY, "b")]


def test_names_of_models_match_exactly() -> None:
    found = pairs({GroupKey(0, "gpt-4o"): {}}, [UsageGroup(NOTHING, day=0, model="gpt-4o-2024-08-06")])
    assert len(found) == 2


def test_costs_are_compared_exactly_unless_there_is_a_tolerance() -> None:
    for cost, tolerance, differs in (
        ("1", "0", False),
        ("1.000", "0", False),
        ("1.0000000000000000000000000000000000000001", "0", True),
        ("1.01", "0.01", False),
        ("0.99", "0.01", False),
        ("1.0100000001", "0.01", True),
    ):
        assert bool(comparison(cost, tolerance=tolerance).different) == differs, cost


def test_a_tolerance_is_for_costs_alone() -> None:
    compared = comparison("1", tolerance="5")
    key, group = next(iter(compared.groups.items()))
    assert Comparison(
        compared.by,
        compared.numbers,
        compared.tolerance,
        compared.start,
        compared.end,
        {key: Compared({**group.export, "requests": Decimal(3)}, group.ledger)},
    ).different


def test_a_number_that_a_side_does_not_have_is_0() -> None:
    assert Compared({}, NOTHING._replace(output_tokens=5)).difference("output_tokens") == -5


def test_totals_are_of_all_groups() -> None:
    totals = comparison("1.5").totals
    assert (totals.exported("cost_usd"), totals.counted("cost_usd")) == (Decimal("1.5"), Decimal(1))
    assert (totals.exported("requests"), totals.ledger.requests) == (Decimal(2), 2)
