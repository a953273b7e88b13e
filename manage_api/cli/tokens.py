"""`llm-proxy token`: what `/manage/tokens` does, on the store directly.

A token's value is written where it is created, shown and rotated, and nowhere else.
"""

from typing import Any

import click

from manage_api import bodies
from manage_api.cli import asking, completion, fields, ids, options, reading, showing, table
from store.clock import SECOND
from store.management.tokens import TokenRecord, Tokens
from store.reports.usage_query import UsageFilter
from store.reports.usage_report import UsageReports
from store.reports.usage_totals import UsageSums
from store.store import Store

_COLUMNS = {
    "name": "name",
    "project": "project",
    "status": "status",
    "expires": "expires (UTC)",
    "requests": "requests",
    "used": "last used (UTC)",
    "id": "id",
}

_DISPENSABLE = ("id", "used", "project", "requests")

_FIELDS = (fields.EXPIRES, fields.MAX_REQUESTS, *fields.RULES)


@click.group(name="token")
def token_command() -> None:
    """List, show, create, change, revoke and rotate tokens, which applications hold."""


@token_command.command(name="list")
@click.option("--project", metavar="PROJECT", shell_complete=completion.projects, help="Of this project.")
@click.option("--active", "active_only", is_flag=True, help="Neither revoked nor expired.")
@click.option(
    "--expires-before",
    metavar="TIME",
    callback=options.reading(options.ahead, options.TIME),
    help="That expire, or have expired, before a time, or within a duration such as 7d.",
)
@options.as_json
def list_command(project: str | None, *, active_only: bool, expires_before: int | None, as_json: bool) -> None:
    """List the tokens, newest first, without their values."""

    def act(store: Store) -> str:
        project_id = None if project is None else ids.project(store, project, "'--project'")
        records = Tokens(store).list(project_id, active_only=active_only, expires_before=expires_before)
        if as_json:
            return table.as_json([showing.token_object(record) for record in records])
        return table.write(_COLUMNS, map(_row, records), width=table.terminal_width(), dispensable=_DISPENSABLE)

    reading.on_store(act)


@token_command.command(name="show")
@options.token
@options.as_json
def show_command(token: str, *, as_json: bool) -> None:
    """Show a token, by its name, id or value: its value, its limits, what is used of them, and its usage."""

    def act(store: Store) -> str:
        record = Tokens(store).get(ids.token(store, token))
        sums = UsageReports(store).totals(UsageFilter(token_id=record.id))
        return _shown(record, sums, as_json=as_json, with_value=True)

    reading.on_store(act)


@token_command.command(name="create")
@click.argument("name", required=False)
@click.option(
    "--project",
    metavar="PROJECT",
    required=True,
    shell_complete=completion.projects,
    help="The project, by name or id.",
)
@fields.with_fields(_FIELDS)
@options.as_json
def create_command(name: str | None, project: str, *, body: dict[str, Any], as_json: bool) -> None:
    """Create a token for a project, with a NAME that says whose it is. It expires in 30 days, or as --expires says."""

    def act(store: Store) -> str:
        named = {} if name is None else {"name": name}
        request = {"project_id": ids.project(store, project, "'--project'"), **named, **body}
        bodies.check("TokenRequest", request)
        return _shown(bodies.create_token(Tokens(store), request), as_json=as_json, with_value=True)

    reading.on_store(act)


@token_command.command(name="update")
@options.token
@fields.with_fields([fields.TOKEN_NAME, *_FIELDS], removable=True)
@click.option("--restore", is_flag=True, help="Bring a revoked token back.")
@options.as_json
def update_command(token: str, *, body: dict[str, Any], restore: bool, as_json: bool) -> None:
    """Change what the options name; the rest stays. A list of limits or models replaces the one that is set."""
    if restore:
        body["is_active"] = True
    if not body:
        raise click.UsageError("Nothing is to be changed: name an option.")

    def act(store: Store) -> str:
        token_id = ids.token(store, token)
        bodies.check("TokenUpdateRequest", body)
        return _shown(Tokens(store).update(token_id, bodies.token_changes(body)), as_json=as_json)

    reading.on_store(act)


@token_command.command(name="revoke")
@options.token
@options.yes
@options.as_json
def revoke_command(token: str, *, yes: bool, as_json: bool) -> None:
    """Revoke a token: its requests are refused from now on."""

    def act(store: Store) -> str:
        tokens = Tokens(store)
        record = tokens.get(ids.token(store, token))
        asking.confirm(f"All requests with the token {_called(record)} are refused from now on.", yes=yes)
        tokens.revoke(record.id)
        if as_json:
            return table.as_json(showing.token_object(tokens.get(record.id)))
        return f"Revoked: token {_called(record)}. `token update --restore` brings it back.\n"

    reading.on_store(act)


@token_command.command(name="rotate")
@options.token
@click.option(
    "--grace",
    metavar="DURATION",
    callback=options.reading(options.duration, "a duration such as 1d, 12h or 30m"),
    help="The value of now works for so long, such as 1d, 12h or 30m; without this it ends at once.",
)
@options.yes
@options.as_json
def rotate_command(token: str, *, grace: int | None, yes: bool, as_json: bool) -> None:
    """Give a token a new value, and show it. Its limits, counts and usage stay."""

    def act(store: Store) -> str:
        tokens = Tokens(store)
        record = tokens.get(ids.token(store, token))
        request = {"grace_seconds": (grace or 0) // SECOND}
        bodies.check("TokenRotateRequest", request)
        if not grace:
            asking.confirm(
                f"The present value of the token {_called(record)} ends at once. With --grace it works for a while.",
                yes=yes,
            )
        return _shown(tokens.rotate(record.id, request["grace_seconds"]), as_json=as_json, with_value=True)

    reading.on_store(act)


def _row(record: TokenRecord) -> dict[str, object]:
    return {
        "name": record.name or record.id,
        "project": record.project_name,
        "status": ids.status_of(record),
        "expires": table.moment(record.expires_at),
        "requests": table.NumberText(showing.requests_of(record)),
        "used": table.moment(record.last_used_at),
        "id": record.id,
    }


def _shown(record: TokenRecord, sums: UsageSums | None = None, *, as_json: bool, with_value: bool = False) -> str:
    if as_json:
        return table.as_json(showing.with_usage(showing.token_object(record, with_value=with_value), sums))
    return showing.token(record, sums, with_value=with_value)


def _called(record: TokenRecord) -> str:
    return record.id if record.name is None else f"{table.printable(record.name)} ({record.id})"
