"""Writes a comparison as a table, CSV or JSON: one line for each number of a group."""

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from manage_api import export, schemas
from manage_api.cli import table
from manage_api.cli.reconciliation.columns import COST, option_of
from manage_api.cli.reconciliation.comparison import Compared, Comparison
from manage_api.cli.reconciliation.provider_export import GroupKey
from manage_api.schemas import JSONObject
from store.clock import to_date
from store.money import decimal_text
from store.reports.usage_query import Dimension

_REQUESTS = "requests"
_SIDES = ("export", "ledger", "difference")
_REASONS = {"in_flight": "running", "estimated": "estimated", "unknown": "unknown", "unpriced": "unpriced"}
"""The ledger's requests that explain a difference, with their titles in the table."""

_AMOUNTS = ("number", *_SIDES, *_REASONS)
"""The fields of a line, after those that name its group."""


def as_table(comparison: Comparison, *, with_equal: bool) -> str:
    """Write what differs (or everything), the totals of both sides, and a sentence with the number of differences."""
    total = {Dimension.DAY: "total", Dimension.MODEL: ""}
    lines = [*_shown(comparison, with_equal=with_equal), *({**line, **total} for line in _totals(comparison))]
    reasons = {name: title for name, title in _REASONS.items() if any(line[name] for line in lines)}
    titles = {name: name for name in (*comparison.by, "number", *_SIDES)} | reasons
    return f"{table.write(titles, map(_as_row, lines))}\n{_sentence(comparison)}\n"


def as_csv(comparison: Comparison, *, with_equal: bool) -> str:
    """Write what differs (or everything) as CSV."""
    fields = (*comparison.by, *_AMOUNTS)
    return export.write_csv(fields, (_as_object(line, fields) for line in _shown(comparison, with_equal=with_equal)))


def as_json(comparison: Comparison, *, with_equal: bool) -> str:
    """Write what differs (or everything) as JSON, with the totals, the period and the numbers of groups."""
    body = {
        "from": to_date(comparison.start),
        "to": to_date(comparison.end),
        "group_by": list(comparison.by),
        "groups": len(comparison.groups),
        "different_groups": len(comparison.different),
        "totals": [_as_object(line, _AMOUNTS) for line in _totals(comparison)],
        "lines": [_as_object(line, (*comparison.by, *_AMOUNTS)) for line in _shown(comparison, with_equal=with_equal)],
    }
    return json.dumps(body, ensure_ascii=False, indent=2) + "\n"


def _shown(comparison: Comparison, *, with_equal: bool) -> Iterator[JSONObject]:
    """Yield the lines of the numbers that differ, or of all.

    Where requests are not compared, a day with differences has a line for the ledger's requests without a model: the
    export may count them for a model, and they often have no known usage either.
    """
    different = comparison.different
    days = {key.day for key in different}
    for key, group in comparison.groups.items():
        if with_equal or key in different:
            yield from _lines(key, group, comparison.numbers if with_equal else comparison.differing(group))
        elif key.model is None and key.day in days and _REQUESTS not in comparison.numbers:
            (line,) = _lines(key, group, [_REQUESTS])
            yield {**line, "export": None, "difference": None}


def _totals(comparison: Comparison) -> Iterator[JSONObject]:
    return _lines(GroupKey(comparison.start, None), comparison.totals, comparison.numbers)


def _lines(key: GroupKey, group: Compared, numbers: Sequence[str]) -> Iterator[JSONObject]:
    known = schemas.usage_sums(group.ledger)
    for number in numbers:
        yield {
            Dimension.DAY: to_date(key.day),
            Dimension.MODEL: key.model,
            "number": number,
            "export": group.exported(number),
            "ledger": None if known[number] is None else group.counted(number),
            "difference": group.difference(number),
            **{name: known[name] for name in _REASONS},
        }


def _as_row(line: Mapping[str, object]) -> JSONObject:
    """Return a line for the table: costs with all of their decimals, six at least."""
    is_cost = line["number"] == COST
    title = "cost (USD)" if is_cost else option_of(str(line["number"]))
    return {**line, "number": title, **{side: _number_text(line[side], 6 if is_cost else 0) for side in _SIDES}}


def _number_text(value: object, decimals: int) -> table.NumberText | None:
    if not isinstance(value, Decimal):
        return None
    needed = len(decimal_text(value).partition(".")[2])
    return table.NumberText(f"{value:,.{max(needed, decimals)}f}")


def _as_object(line: Mapping[str, object], fields: Sequence[str]) -> JSONObject:
    return {name: _plain(line[name], is_cost=line["number"] == COST) for name in fields}


def _plain(value: object, *, is_cost: bool) -> object:
    if not isinstance(value, Decimal):
        return value
    return decimal_text(value) if is_cost else int(value)


def _sentence(comparison: Comparison) -> str:
    different = len(comparison.different)
    groups = "days and models" if Dimension.MODEL in comparison.by else "days"
    return f"{different:,} of {len(comparison.groups):,} {groups} {'differs' if different == 1 else 'differ'}."
