"""`llm-proxy audit`: `/manage/audit`, read from the store directly."""

import json
import sys
from dataclasses import replace
from typing import Any

import click

from manage_api import schemas
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
    "object_id": "id",
    "ids": "ids",
    "address": "address",
    "request_id": "request",
}
_OPTIONAL = ("ids", "address", "request_id")
_DISPENSABLE = ("request_id", "address", "ids", "object_id")


@click.command(name="audit")
@options.filters_of_changes
@click.option("--actor", help="Made by this administrator, or on the command line by cli:USER.")
@click.option("--action", type=click.Choice(ACTIONS), metavar="ACTION", help="Of this kind, such as token.create.")
@click.option("--limit", type=click.IntRange(1, MAX_LIMIT), default=DEFAULT_LIMIT, show_default=True)
@options.form("table", *table.JSON_FORMS)
def audit_command(limit: int, form: str, **about: Any) -> None:
    """List the newest changes, through the API and the command line."""
    settings = load_settings()
    sys.exit(reading.run(settings, lambda store: read(store, AuditFilter(**about), limit, form)))


def read(store: Store, about: AuditFilter, limit: int, form: str) -> str:
    """Return the newest changes in a form. Raises click.BadParameter, StoreUnavailable."""
    records = AuditLog(store).page(_with_ids(store, about), limit=limit).records
    if form != "table":
        return table.in_json(form, [schemas.audit_row(record) for record in records])
    rows = [_row(record) for record in records]
    columns = table.filled(_COLUMNS, rows, _OPTIONAL)
    return table.write(columns, rows, width=table.terminal_width(), dispensable=_DISPENSABLE)


def _with_ids(store: Store, about: AuditFilter) -> AuditFilter:
    """Return a filter with ids in the place of names."""
    named = ids.known(store, RequestFilter(project_id=about.project_id))
    object_id = None if about.object_id is None else ids.changed(store, about.object_id)
    return replace(about, project_id=named.project_id, object_id=object_id)


def _row(record: AuditRecord) -> JSONObject:
    return {
        "changed_at": to_rfc3339(record.changed_at),
        "actor": record.actor,
        "action": record.action,
        "object": record.object_name or record.object_id,
        "object_id": record.object_id,
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
