"""`llm-proxy reconcile`: its options and exit statuses.

status  0    the export and the ledger agree
        1    they differ; or there is no store, or it does not answer, and a message says so
        2    bad settings, a bad option, or an export that cannot be read
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from manage_api.cli import ids, options, reading
from manage_api.cli.context import load_settings
from manage_api.cli.reconciliation import cells, output, provider_export
from manage_api.cli.reconciliation.columns import NUMBERS, Columns, option_of
from manage_api.cli.reconciliation.comparison import Comparison, pairs
from manage_api.cli.reconciliation.presets import PRESETS
from store.reports.usage_query import Dimension, UsageFilter
from store.reports.usage_report import UsageReports
from store.store import Store

_DIFFERENT = 1

_BY_DAY = (Dimension.DAY,)
_BY_MODEL = (Dimension.DAY, Dimension.MODEL)
_WRITERS = {"table": output.as_table, "csv": output.as_csv, "json": output.as_json}
_GROUPS: Mapping[str, Sequence[Dimension]] = {",".join(by): by for by in (_BY_MODEL, _BY_DAY)}


def _tolerance(_context: click.Context, _parameter: click.Parameter, text: str) -> Decimal:
    try:
        return abs(cells.amount(text))
    except ValueError:
        raise click.BadParameter("expected an amount of US dollars such as 0.01.") from None


def _number_columns(command: options.Command) -> options.Command:
    """Add an option for the columns of each number of the ledger."""
    made = [
        click.option(f"--{option_of(number)}", number, metavar="COLUMN", multiple=True, help=f"Compare {number}.")
        for number in NUMBERS
    ]
    return options.with_options(command, made)


@click.command(name="reconcile")
@options.file
@click.option("--preset", type=click.Choice([*PRESETS]), help="The columns of a known export; options replace them.")
@click.option("--day", metavar="COLUMN", help="The day: a date, a time (UTC if it names no offset) or Unix seconds.")
@click.option("--model", metavar="COLUMN", help="The model.")
@_number_columns
@click.option("--by", type=click.Choice([*_GROUPS]), help="Groups; day,model where there is a column of the model.")
@options.filters_by_day
@click.option(
    "--cost-tolerance",
    "tolerance",
    metavar="USD",
    default="0",
    show_default=True,
    callback=_tolerance,
    help="Costs of a group that are this close agree.",
)
@click.option("--all", "with_equal", is_flag=True, help="Show what agrees too.")
@options.form(*_WRITERS)
def reconcile_command(file: Path, *, tolerance: Decimal, with_equal: bool, form: str, **given: Any) -> None:
    """Compare a provider's usage export with the ledger.

    FILE is CSV with a header. Options name its columns; a number without one is not compared. An option that is given
    several times adds its columns up, and rows of the same day and model are added up too. Costs are in US dollars.

    Days begin at midnight UTC, as providers' do. The days compared are those of the file, unless --from and --to say
    otherwise. The status is 0 if all agrees, 1 if anything differs.
    """
    columns = _columns(given)
    settings = load_settings()

    def read(store: Store) -> tuple[str, int]:
        comparison = reconcile(store, file, columns, UsageFilter(**given), tolerance)
        return _WRITERS[form](comparison, with_equal=with_equal), _DIFFERENT if comparison.different else 0

    sys.exit(reading.run_judged(settings, read))


def _columns(given: dict[str, Any]) -> Columns:
    """Take the options that name columns out of `given`. Raises click.UsageError where one is missing."""
    preset = PRESETS.get(given.pop("preset"), Columns("", None, {}))
    columns = Columns(
        day=given.pop("day") or preset.day,
        model=given.pop("model") or preset.model,
        numbers={number: names for number in NUMBERS if (names := given.pop(number) or preset.numbers.get(number))},
    )
    by = given.pop("by") or ",".join(_BY_MODEL if columns.model else _BY_DAY)
    if not columns.day:
        raise click.UsageError("Name the column of the day by --day, or a --preset.")
    if not columns.numbers:
        raise click.UsageError(f"Name a column to compare: {', '.join(f'--{option_of(each)}' for each in NUMBERS)}.")
    if Dimension.MODEL in _GROUPS[by] and not columns.model:
        raise click.UsageError("Name the column of the model by --model, or compare --by day.")
    return columns if Dimension.MODEL in _GROUPS[by] else replace(columns, model=None)


def reconcile(store: Store, file: Path, columns: Columns, about: UsageFilter, tolerance: Decimal) -> Comparison:
    """Compare a file with what a filter selects of the ledger, over the days of the file where the filter has none.

    Raises click.BadParameter, InvalidRequest, StoreUnavailable.
    """
    about = ids.known(store, about)
    export = provider_export.read(file, columns, about.start, about.end)
    start = export.start if about.start is None else about.start
    end = export.end if about.end is None else about.end
    if start is None or end is None or start >= end:
        raise click.BadParameter("the file has no row in the period; --from and --to set one.", param_hint="'FILE'")
    by = _BY_MODEL if columns.model else _BY_DAY
    report = UsageReports(store).report(by, replace(about, start=start, end=end))
    return Comparison(by, list(columns.numbers), tolerance, start, end, pairs(export.groups, report.groups))
