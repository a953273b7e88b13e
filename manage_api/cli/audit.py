"""`llm-proxy audit`: `/manage/audit`, read from the store directly."""

import json
import sys
from dataclasses import replace
from typing import Any

import click

from manage_api import export, schemas
from manage_api.cli import ids, options, reading, table
from manage_api.cli.context import load_settings
from manage_api.schemas import JSONObject
from store.clock import to_rfc3339
from store.management.audit import ACTIONS
from store.reports.audit_log import AuditFilter, AuditLog, AuditRecord
from store.reports.pages import DEFAULT_LIMIT, MAX_LIMIT
from store.reports.request_list import RequestFilter
from store.store import Store

_COLUMNS = {
    "changed_at": "time",
    "actor": "actor",
    "action": "action",
    "object": "object",
    "changes": "changes",
    "ids": "ids",
    "address": "address",
    "request_id": "request",
}
_OPTIONAL = ("ids", "address", "request_id")


@click.command(name="audit")
@options.filters_of_changes
@click.option("--actor", help="Made by this administrator, or on the command line by cli:USER.")
@click.option("--action", type=click.Choice(ACTIONS), metavar="ACTION", help="Of this kind, such as token.create.")
@click.option("--limit", type=click.IntRange(1, MAX_LIMIT), default=DEFAULT_LIMIT, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Write JSON lines.")
def audit_command(limit: int, as_json: bool, **about: Any) -> None:
    """List the newest changes, through the API and the command line."""
    settings = load_settings()
    sys.exit(reading.run(settings, lambda store: read(store, AuditFilter(**about), limit, as_json=as_json)))


def read(store: Store, about: AuditFilter, limit: int, *, as_json: bool) -> str:
    """Return the newest changes as a table, or as JSON lines. Raises click.BadParameter, StoreUnavailable."""
    named = ids.known(store, RequestFilter(project_id=about.project_id))
    records = AuditLog(store).page(replace(about, project_id=named.project_id), limit=limit).records
    if as_json:
        return export.as_json_lines(map(schemas.audit_row, records))
    rows = [_row(record) for record in records]
    empty = [name for name in _OPTIONAL if all(row[name] is None for row in rows)]
    return table.write({name: title for name, title in _COLUMNS.items() if name not in empty}, rows)


def _row(record: AuditRecord) -> JSONObject:
    return {
        "changed_at": to_rfc3339(record.changed_at),
        "actor": record.actor,
        "action": record.action,
        "object": " ".join(filter(None, [record.object_name, record.object_id])),
        "changes": ", ".join(
            f"{name}: {_plain(change['before'])} -> {_plain(change['after'])}"
            for name, change in record.changes.items()
        ),
        "ids": len(record.ids) or None,
        "address": record.address,
        "request_id": record.request_id,
    }


def _plain(value: object) -> str:
    return table.UNKNOWN if value is None else json.dumps(value, ensure_ascii=False)
