"""`llm-proxy request`, and `requests` for its list: `/manage/requests`, read from the store directly."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from manage_api import schemas
from manage_api.cli import ids, options, reading, table
from manage_api.cli.context import load_settings
from manage_api.schemas import JSONObject
from store.clock import to_rfc3339
from store.errors import REQUEST_CODES
from store.ledger.usage import Source
from store.money import usd
from store.reports.pages import DEFAULT_LIMIT, MAX_LIMIT
from store.reports.request_list import OPEN, RequestFilter, RequestList, RequestRecord
from store.store import Store

FORMATS = ("table", *table.JSON_FORMS)
FORMATS_OF_ONE = ("table", "json")

_COLUMNS = {
    "started": "started",
    "status": "status",
    "code": "code",
    "repeats": "times",
    "duration_ms": "ms",
    "endpoint": "endpoint",
    "model": "model",
    "input_tokens": "input",
    "output_tokens": "output",
    "cost": "cost (USD)",
    "usage": "usage",
    "project": "project",
    "token_id": "token",
    "token_name": "token name",
    "id": "request",
}
_OPTIONAL = ("code", "repeats", "token_name")
_DISPENSABLE = (
    *("token_id", "usage", "project", "duration_ms", "input_tokens", "output_tokens", "endpoint", "repeats"),
    *("token_name", "cost"),
)

_CONSTANT: Mapping[str, Sequence[str]] = {
    "token_id": ("token_id", "token_name", "project"),
    "project_id": ("project",),
    "endpoint": ("endpoint",),
}
"""The columns that are the same in all rows where a filter is set: they are left out first."""


@click.command(name="requests")
@options.filters
@click.option("--status", type=click.IntRange(100, 599), help="Answered with this status.")
@click.option("--code", type=click.Choice(REQUEST_CODES), help="Refused, or ended, by the gateway for this.")
@click.option(
    "--usage", "source", type=click.Choice([*(source.value for source in Source), OPEN]), help="How the usage is known."
)
@click.option("--limit", type=click.IntRange(1, MAX_LIMIT), default=DEFAULT_LIMIT, show_default=True)
@options.form(*FORMATS)
def requests_command(limit: int, form: str, **about: Any) -> None:
    """List the newest requests, admitted and refused."""
    settings = load_settings()
    sys.exit(reading.run(settings, lambda store: read(store, RequestFilter(**about), limit, form)))


class _Requests(click.Group):
    """The commands of `request`. Any other word is the id of a request to show."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command for the arguments, and the arguments that are left for it."""
        is_command = args[0] in self.commands or args[0].startswith("-")
        return super().resolve_command(ctx, args if is_command else ["show", *args])


@click.group(name="request", cls=_Requests)
def request_command() -> None:
    """List requests, or show a single one.

    `request ID` is short for `request show ID`.
    """


request_command.add_command(requests_command, "list")


@request_command.command(name="show")
@click.argument("request_id", metavar="ID")
@options.form(*FORMATS_OF_ONE)
def show_command(request_id: str, form: str) -> None:
    """Show the request with this ID: ours, or the upstream's, which SDKs show."""
    settings = load_settings()
    sys.exit(reading.run(settings, lambda store: show(store, request_id, form)))


def read(store: Store, about: RequestFilter, limit: int, form: str) -> str:
    """Return the newest requests as one of FORMATS. Raises click.BadParameter, StoreUnavailable."""
    records = RequestList(store).page(ids.known(store, about), limit=limit).records
    if form != "table":
        return table.in_json(form, [schemas.ledger_row(record) for record in records])
    rows = [_row(record) for record in records]
    columns = table.filled(_COLUMNS, rows, _OPTIONAL)
    constant = [name for field, names in _CONSTANT.items() if getattr(about, field) is not None for name in names]
    dispensable = [*constant, *_DISPENSABLE]
    return table.write(columns, rows, width=table.terminal_width(), dispensable=dispensable, whole={"id"})


def show(store: Store, request_id: str, form: str) -> str:
    """Return one request, by the gateway's id or the upstream's, as one of FORMATS_OF_ONE.

    Raises NotFound, StoreUnavailable.
    """
    fields = schemas.ledger_row(RequestList(store).get(request_id))
    if form == "json":
        return table.as_json(fields)
    rows = [{"field": name, "value": _plain(value)} for name, value in fields.items()]
    return table.write({"field": "field", "value": "value"}, rows)


def _row(record: RequestRecord) -> JSONObject:
    return {
        "started": to_rfc3339(record.started_at),
        "status": record.status,
        "code": record.code,
        "repeats": record.repeats,
        "duration_ms": record.duration_ms,
        "endpoint": record.endpoint,
        "model": record.model or record.model_asked,
        "input_tokens": record.input_tokens,
        "output_tokens": record.output_tokens,
        "cost": None if record.cost is None else usd(record.cost),
        "usage": record.usage_source or (None if record.code else OPEN),
        "project": record.project_name or record.project_id,
        "token_id": record.token_id,
        "token_name": record.token_name,
        "id": record.id,
    }


def _plain(value: object) -> str | None:
    """Write a field as JSON, but texts without quotation marks."""
    return value if value is None or isinstance(value, str) else json.dumps(value)
