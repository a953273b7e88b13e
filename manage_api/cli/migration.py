"""`llm-proxy migrate`: its messages and exit statuses. `store.schema` does the work.

status  0    the schema is up to date
        1    it is not, and the message says why; the migrations listed as done are done
        2    bad settings
        3    a dry run found something to do
"""

import sys

import click

from manage_api.cli import options, table
from manage_api.cli.context import load_settings
from store.operations.opening import migrate_store, pending_migrations
from store.runtime.lifecycle import CANNOT_START, interrupt_at_stop_signals, or_exit
from store.runtime.settings import Settings

_INTERRUPTED = 1
_OUTDATED = 3

_UP_TO_DATE = "The schema is up to date."


@click.command(name="migrate")
@click.option("--dry-run", is_flag=True, help="List what would be done; change nothing. Status 3 if there is anything.")
@options.as_json
def migrate_command(*, dry_run: bool, as_json: bool) -> None:
    """Bring the store's schema up to date, as each start does."""
    interrupt_at_stop_signals()
    settings = load_settings()
    sys.exit(preview(settings, as_json=as_json) if dry_run else run(settings, as_json=as_json))


def run(settings: Settings, *, as_json: bool = False) -> int:
    """Migrate, print each migration, and return the exit status. Ends the process where the store cannot be opened."""
    done: list[str] = []

    def report(name: str) -> None:
        done.append(name)
        if not as_json:
            click.echo(f"Migrated: {name}")

    try:
        or_exit(lambda: migrate_store(settings, report), CANNOT_START)
    except KeyboardInterrupt:
        click.echo("Stopped by a signal. Migrate again for the rest.", err=True)
        return _INTERRUPTED
    if as_json:
        click.echo(table.as_json({"migrated": done}), nl=False)
    else:
        click.echo(_UP_TO_DATE if done else f"There was nothing to do. {_UP_TO_DATE}")
    return 0


def preview(settings: Settings, *, as_json: bool = False) -> int:
    """Print the pending migrations, and return the exit status. Ends the process where the store cannot be read."""
    pending = or_exit(lambda: pending_migrations(settings), CANNOT_START)
    if as_json:
        click.echo(table.as_json({"pending": pending}), nl=False)
    else:
        told = [f"Would migrate: {name}" for name in pending] or [f"There is nothing to do. {_UP_TO_DATE}"]
        click.echo("\n".join(told))
    return _OUTDATED if pending else 0
