"""`llm-proxy migrate`: its messages and exit statuses. `store.schema` does the work.

status  0    the schema is up to date
        1    it is not, and the message says why; the migrations listed as done are done
        2    bad settings
        3    a dry run found something to do
"""

import sys

import click

from manage_api.cli.context import load_settings
from store.operations.opening import migrate_store, pending_migrations
from store.runtime.lifecycle import CANNOT_START, interrupt_at_stop_signals, or_exit
from store.runtime.settings import Settings

_INTERRUPTED = 1
_OUTDATED = 3

_UP_TO_DATE = "The schema is up to date."


@click.command(name="migrate")
@click.option("--dry-run", is_flag=True, help="List what would be done; change nothing. Status 3 if there is anything.")
def migrate_command(dry_run: bool) -> None:
    """Bring the store's schema up to date, as each start does."""
    interrupt_at_stop_signals()
    settings = load_settings()
    sys.exit(preview(settings) if dry_run else run(settings))


def run(settings: Settings) -> int:
    """Migrate, print each migration, and return the exit status. Ends the process where the store cannot be opened."""
    done: list[str] = []

    def report(name: str) -> None:
        done.append(name)
        click.echo(f"Migrated: {name}")

    try:
        or_exit(lambda: migrate_store(settings, report), CANNOT_START)
    except KeyboardInterrupt:
        click.echo("Stopped by a signal. Migrate again for the rest.", err=True)
        return _INTERRUPTED
    click.echo(_UP_TO_DATE if done else f"There was nothing to do. {_UP_TO_DATE}")
    return 0


def preview(settings: Settings) -> int:
    """Print the pending migrations, and return the exit status. Ends the process where the store cannot be read."""
    pending = or_exit(lambda: pending_migrations(settings), CANNOT_START)
    for name in pending:
        click.echo(f"Would migrate: {name}")
    if pending:
        return _OUTDATED
    click.echo(f"There is nothing to do. {_UP_TO_DATE}")
    return 0
