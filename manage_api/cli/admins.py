"""`llm-proxy admin`: `/manage/admins`, read and changed in the store directly; it also disables and enables.

So an operator of the machine gets in again when all tokens are lost.
"""

import json
import sys
from collections.abc import Callable

import click

from manage_api import schemas
from manage_api.cli import reading, table
from manage_api.cli.context import load_settings
from store.management.admins import AdminRecord, Admins, Role
from store.store import Store

_COLUMNS = {"name": "name", "role": "role", "is_active": "enabled", "created_at": "created", "id": "id"}

_as_json = click.option("--json", "as_json", is_flag=True, help="Write JSON.")
_name = click.argument("name")


@click.group(name="admin")
def admin_command() -> None:
    """List and change the administrators of the management API."""


@admin_command.command(name="list")
@_as_json
def list_command(as_json: bool) -> None:
    """List the administrators."""
    _run(lambda store: listed(store, as_json=as_json))


@admin_command.command(name="create")
@_name
@click.option(
    "--role", type=click.Choice([*map(str, Role)]), required=True, help="viewer: reads all but tokens, changes nothing."
)
@_as_json
def create_command(name: str, role: str, as_json: bool) -> None:
    """Add the administrator NAME, and show the token, once."""
    _run(lambda store: create(store, name, Role(role), as_json=as_json))


@admin_command.command(name="delete")
@_name
@click.confirmation_option(prompt="The administrator's token is refused from then on. Delete it?")
def delete_command(name: str) -> None:
    """Remove the administrator NAME."""
    _change(name, lambda admins, found: admins.delete(found.id), "deleted")


@admin_command.command(name="disable")
@_name
def disable_command(name: str) -> None:
    """Refuse the token of the administrator NAME until it is enabled."""
    _change(name, lambda admins, found: admins.disable(found.id), "disabled")


@admin_command.command(name="enable")
@_name
def enable_command(name: str) -> None:
    """Let the token of the administrator NAME in again."""
    _change(name, lambda admins, found: admins.enable(found.id), "enabled")


def listed(store: Store, *, as_json: bool) -> str:
    """Return all administrators as a table, or as JSON. Raises StoreUnavailable."""
    shown = [schemas.admin(record) for record in Admins(store).list()]
    if as_json:
        return json.dumps(shown, indent=2) + "\n"
    return table.write(_COLUMNS, [{**each, "is_active": "yes" if each["is_active"] else "no"} for each in shown])


def create(store: Store, name: str, role: Role, *, as_json: bool) -> str:
    """Add an administrator and return it with its token. Raises InvalidRequest, Conflict, StoreUnavailable."""
    record, token = Admins(store).create(name, role)
    if as_json:
        return json.dumps({**schemas.admin(record), "token": token}, indent=2) + "\n"
    return f"The administrator {name} ({role}) has this token, which is not shown again:\n\n{token}\n"


def _change(name: str, change: Callable[[Admins, AdminRecord], None], done: str) -> None:
    def changed(store: Store) -> str:
        admins = Admins(store)
        change(admins, admins.named(name))
        return f"The administrator {name} is {done}.\n"

    _run(changed)


def _run(command: Callable[[Store], str]) -> None:
    sys.exit(reading.run(load_settings(), command))
