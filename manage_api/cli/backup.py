"""`llm-proxy backup`: its messages and exit statuses. `store.operations.backup` does the work."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from manage_api.cli import options, table
from manage_api.cli.context import load_settings, place_of_encryption_key
from manage_api.schemas import JSONObject
from store.database import is_postgresql
from store.errors import BackupFailed
from store.operations.backup import Backup, back_up
from store.runtime.database_url import sqlite_path
from store.runtime.lifecycle import note_stop_signals
from store.runtime.settings import Settings

_FAILED = 1


@click.command(name="backup")
@options.file
@options.as_json
def backup_command(file: Path, *, as_json: bool) -> None:
    """Copy the store into a new FILE, while it is in use."""
    stopped = note_stop_signals()
    sys.exit(run(load_settings(), file, stopped, as_json=as_json))


def run(settings: Settings, file: Path, stopped: Callable[[], bool], *, as_json: bool = False) -> int:
    """Back up the store into `file`; give up where `stopped` returns True. Returns the exit status."""
    if is_postgresql(settings.store_url):
        click.echo("The store is in PostgreSQL, which has its own: pg_dump --format=custom.", err=True)
        return _FAILED
    began = time.monotonic()
    try:
        backup = back_up(sqlite_path(settings.store_url), file, stopped)
    except BackupFailed as error:
        click.echo(error, err=True)
        return _FAILED
    seconds = time.monotonic() - began
    if as_json:
        click.echo(table.as_json(_object(backup, file, settings, seconds)), nl=False)
    else:
        click.echo(_done(backup, file, seconds))
        click.echo(
            "It does not open without the encryption key, which is not in it: "
            f"keep {place_of_encryption_key(settings)} too, apart from it."
        )
    return 0


def _object(backup: Backup, file: Path, settings: Settings, seconds: float) -> JSONObject:
    return {
        "file": str(file.absolute()),
        "bytes": backup.size,
        "rows": dict(backup.rows),
        "seconds": round(seconds, 3),
        "encryption_key": place_of_encryption_key(settings),
    }


def _done(backup: Backup, file: Path, seconds: float) -> str:
    rows = ", ".join(f"{name}s {backup.rows.get(name, 0):,}" for name in ("project", "token", "request"))
    return f"Backed up into {file.absolute()}: {rows}; {backup.size:,} bytes, checked, in {seconds:.1f} s."
