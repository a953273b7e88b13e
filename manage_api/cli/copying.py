"""`llm-proxy copy`: its messages and exit statuses. `store.operations.copying` does the work.

status  0    the copy is there, and every row equals the source's
        1    there is no copy, and the message says why; the target is unchanged
        2    bad settings, or no URL
"""

import contextlib
import sys
import time
from collections.abc import Callable

import click

from manage_api.cli import options, table
from manage_api.cli.context import load_settings
from store.database import open_database, without_password
from store.errors import CopyFailed, StartupError
from store.operations.copying.copier import Copied, copy
from store.operations.opening import open_existing
from store.runtime.lifecycle import CANNOT_START, note_stop_signals, or_exit
from store.runtime.settings import Settings

_FAILED = 1

_SHOWN = 10
"""Rows named in a message at most."""


@click.command(name="copy")
@options.target
@options.as_json
def copy_command(target: str, *, as_json: bool) -> None:
    """Copy the store into another, empty database."""
    stopped = note_stop_signals()
    sys.exit(run(load_settings(), target, stopped, as_json=as_json))


def run(settings: Settings, target_url: str, stopped: Callable[[], bool], *, as_json: bool = False) -> int:
    """Copy the store into the target; give up where `stopped` returns True. Returns the exit status."""
    source = or_exit(lambda: open_existing(settings), CANNOT_START)
    target = open_database(target_url, settings.store_timeout)
    began = time.monotonic()
    try:
        with contextlib.closing(source.database), contextlib.closing(target):
            copied = copy(source, target, stopped)
    except (CopyFailed, StartupError) as error:
        click.echo(f"{error}\nNo copy was made; the target is as it was.", err=True)
        return _FAILED
    seconds = time.monotonic() - began
    click.echo(_as_json(copied, target_url, seconds) if as_json else _done(copied, target_url, seconds))
    for warning in _warnings(copied):
        click.echo(warning, err=True)
    return 0


def _as_json(copied: Copied, target_url: str, seconds: float) -> str:
    shown = {
        "target": without_password(target_url),
        "rows": copied.rows,
        "seconds": round(seconds, 3),
        "replaced": copied.replaced,
        "unreadable": copied.unreadable,
        "source_in_use": copied.source_in_use,
    }
    return table.as_json(shown).rstrip()


def _done(copied: Copied, target_url: str, seconds: float) -> str:
    rows = [{"table": name, "rows": number} for name, number in copied.rows.items()]
    return (
        table.write({"table": "table", "rows": "rows"}, rows)
        + f"Copied to {without_password(target_url)} in {seconds:.1f} s; read back, every row is the same.\n"
        "It opens with the same ENCRYPTION_KEY, or the file encryption_key in DATA_DIR: take that along."
    )


def _warnings(copied: Copied) -> list[str]:
    warnings = []
    if copied.replaced:
        warnings.append(f"{copied.replaced:,} texts held characters that no text may have; U+FFFD stands for them.")
    if copied.unreadable:
        more = len(copied.unreadable) - _SHOWN
        names = ", ".join(copied.unreadable[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
        warnings.append(f"No key of the ring opens {len(copied.unreadable):,} ciphertexts, copied as they are: {names}")
    if copied.source_in_use:
        warnings.append(
            "A proxy is at work on the source: what it has admitted since the copy began is missing. "
            "Stop it, and copy again."
        )
    return warnings
