"""`llm-proxy backup`: its messages and exit statuses. `store.operations.backup` does the work."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from manage_api.cli import options
from manage_api.cli.context import load_settings
from store.database import is_postgresql
from store.encryption.keyfiles import ENCRYPTION_KEY_FILE
from store.errors import BackupFailed
from store.operations.backup import Backup, back_up
from store.runtime.database_url import sqlite_path
from store.runtime.lifecycle import note_stop_signals
from store.runtime.settings import Settings

_FAILED = 1


@click.command(name="backup")
@options.file
def backup_command(file: Path) -> None:
    """Copy the store into a new FILE, while it is in use."""
    stopped = note_stop_signals()
    sys.exit(run(load_settings(), file, stopped))


def run(settings: Settings, file: Path, stopped: Callable[[], bool]) -> int:
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
    click.echo(_done(backup, file, time.monotonic() - began))
    click.echo(_reminder(settings))
    return 0


def _done(backup: Backup, file: Path, seconds: float) -> str:
    rows = ", ".join(f"{table}s {backup.rows.get(table, 0):,}" for table in ("project", "token", "request"))
    return f"Backed up into {file.absolute()}: {rows}; {backup.size:,} bytes, checked, in {seconds:.1f} s."


def _reminder(settings: Settings) -> str:
    where = "ENCRYPTION_KEY" if settings.encryption_key else settings.data_dir.absolute() / ENCRYPTION_KEY_FILE
    return f"It does not open without the encryption key, which is not in it: keep {where} too, apart from it."
