"""`llm-proxy admin`: what `/manage/admins` does, on the store directly; it also disables and enables.

So an operator of the machine gets in again when all tokens are lost.
"""

from collections.abc import Callable

import click

from manage_api import schemas
from manage_api.cli import asking, completion, ids, options, reading, table
from manage_api.schemas import JSONObject
from store.management.admins import AdminRecord, Admins, Role
from store.store import Store

_COLUMNS = {"name": "name", "role": "role", "is_active": "enabled", "created": "created (UTC)", "id": "id"}

_admin = click.argument("name", metavar="ADMIN", shell_complete=completion.admins)


@click.group(name="admin")
def admin_command() -> None:
    """List and change the administrators of the management API."""


@admin_command.command(name="list")
@options.as_json
def list_command(*, as_json: bool) -> None:
    """List the administrators."""

    def act(store: Store) -> str:
        records = Admins(store).list()
        if as_json:
            return table.as_json([schemas.admin(record) for record in records])
        return table.write(_COLUMNS, map(_row, records), width=table.terminal_width(), dispensable=("id", "created"))

    reading.on_store(act)


@admin_command.command(name="create")
@click.argument("name")
@click.option(
    "--role", type=click.Choice([*map(str, Role)]), required=True, help="viewer: reads all but tokens, changes nothing."
)
@options.as_json
def create_command(name: str, role: str, *, as_json: bool) -> None:
    """Add an administrator with a NAME, and show the token, once."""

    def act(store: Store) -> str:
        record, token = Admins(store).create(name, Role(role))
        return table.as_json({**schemas.admin(record), "token": token}) if as_json else _written(record, token)

    reading.on_store(act)


@admin_command.command(name="delete")
@_admin
@options.yes
@options.as_json
def delete_command(name: str, *, yes: bool, as_json: bool) -> None:
    """Remove an administrator, whose token is refused from then on."""

    def act(store: Store) -> str:
        admins = Admins(store)
        record = ids.admin(store, name)
        asking.confirm(f"The administrator {record.name} is deleted for good: its token is refused at once.", yes=yes)
        admins.delete(record.id)
        return table.as_json(schemas.admin(record)) if as_json else f"Deleted: administrator {record.name}.\n"

    reading.on_store(act)


@admin_command.command(name="disable")
@_admin
@options.as_json
def disable_command(name: str, *, as_json: bool) -> None:
    """Refuse the token of an administrator until it is enabled."""
    _switch(name, Admins.disable, as_json=as_json)


@admin_command.command(name="enable")
@_admin
@options.as_json
def enable_command(name: str, *, as_json: bool) -> None:
    """Let the token of an administrator in again."""
    _switch(name, Admins.enable, as_json=as_json)


def _switch(name: str, switch: Callable[[Admins, str], None], *, as_json: bool) -> None:
    def act(store: Store) -> str:
        admin_id = ids.admin(store, name).id
        switch(Admins(store), admin_id)
        record = ids.admin(store, admin_id)
        return table.as_json(schemas.admin(record)) if as_json else _written(record)

    reading.on_store(act)


def _written(record: AdminRecord, token: str | None = None) -> str:
    """Write an administrator; with the token of a new one."""
    row = _row(record)
    shown = {title: row[name] for name, title in _COLUMNS.items()}
    return table.fields(shown if token is None else {**shown, "token, shown once": token})


def _row(record: AdminRecord) -> JSONObject:
    return {
        "name": record.name,
        "role": record.role,
        "is_active": "yes" if record.is_active else "no",
        "created": table.moment(record.created_at),
        "id": record.id,
    }
