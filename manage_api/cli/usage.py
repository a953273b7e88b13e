"""`llm-proxy usage`: the report of `/manage/usage`, read from the store directly."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import click

from manage_api import export, schemas, words
from manage_api.cli import ids, options, reading, table
from manage_api.cli.context import load_settings
from manage_api.schemas import JSONObject
from store.reports.usage_query import Dimension, UsageFilter
from store.reports.usage_report import UsageGroup, UsageReport, UsageReports
from store.reports.usage_totals import UsageSums
from store.store import Store

FORMATS = ("table", *export.CSV_ENCODINGS, "json")

_COLUMNS: Mapping[str, str] = {"project_id": "project", "token_id": "token"}
"""The columns of the table that have another name than the field; `project` shows the project's name or its id."""

_COSTS = ("cost_usd", "told_cost_usd", "cost_where_told_usd")
_DISPENSABLE = [name for name in reversed([*words.SUMS]) if name not in words.ALWAYS_SHOWN]


@click.command(name="usage")
@options.by
@options.filters
@options.timezone
@options.form(*FORMATS)
def usage_command(by: Sequence[Dimension], zone: ZoneInfo | None, form: str, **about: Any) -> None:
    """Show what was used and what it cost."""
    settings = load_settings()
    sys.exit(reading.run(settings, lambda store: read(store, by, UsageFilter(**about), form, zone)))


def read(
    store: Store, by: Sequence[Dimension], about: UsageFilter, form: str, zone: ZoneInfo | None = None
) -> str | bytes:
    """Return the report as one of FORMATS. Raises click.BadParameter, InvalidRequest, StoreUnavailable."""
    report = UsageReports(store).report(by, ids.known(store, about), zone)
    if form in export.CSV_ENCODINGS:
        return export.usage_as_csv(report, by, form)
    if form == "json":
        return table.as_json(schemas.usage_report(report, by))
    return _as_table(report, by)


def _as_table(report: UsageReport, by: Sequence[Dimension]) -> str:
    """Write a table with the totals below. It has no column for token names where there are none, or for sums of 0."""
    totals = _sums(report.totals)
    left_out = {"project_name"} if any(group.token_name for group in report.groups) else {"project_name", "token_name"}
    keys = [_COLUMNS.get(field, field) for field in schemas.group_fields(by) if field not in left_out]
    titles = {key: key.replace("_", " ") for key in keys}
    sums = words.titles_of_sums(totals)
    projects = _projects(report.groups)
    rows = [_row(group, by, projects) for group in report.groups] if by else []
    total = {**dict.fromkeys(keys, ""), **dict.fromkeys(keys[:1], "total"), **totals}
    dispensable = [*(["token"] if _are_told_apart_by_names(report.groups) else []), *_DISPENSABLE]
    return table.write({**titles, **sums}, [*rows, total], width=table.terminal_width(), dispensable=dispensable)


def shown_sums(sums: UsageSums) -> JSONObject:
    """Return sums by their titles, without those that are 0."""
    values = _sums(sums)
    return {title: values[name] for name, title in words.titles_of_sums(values).items()}


def _projects(groups: Sequence[UsageGroup]) -> Mapping[str | None, str | None]:
    """Return the shown name of each project by id: its name, with the id where several have that name."""
    names = {group.project_id: group.project_name for group in groups}
    times = Counter(names.values())
    shown = {}
    for project_id, name in names.items():
        unique = name if times[name] == 1 else f"{name} ({project_id})"
        shown[project_id] = project_id if name is None else unique
    return shown


def _are_told_apart_by_names(groups: Sequence[UsageGroup]) -> bool:
    """Tell whether each token has a name, and no two have the same."""
    names = {group.token_id: group.token_name for group in groups}
    return None not in names.values() and len({*names.values()}) == len(names)


def _row(group: UsageGroup, by: Sequence[Dimension], projects: Mapping[str | None, str | None]) -> JSONObject:
    shown = {"project": projects[group.project_id], "token": group.token_id}
    return {**schemas.usage_group(group, by), **shown, **_sums(group.sums)}


def _sums(sums: UsageSums) -> JSONObject:
    costs = (sums.cost_usd, sums.told_cost_usd, sums.cost_where_told_usd)
    return {**schemas.usage_sums(sums), **dict(zip(_COSTS, costs, strict=True))}
