"""`llm-proxy rotate`: its messages and exit statuses. `store.operations.rotation` does the work."""

import sys
from collections.abc import Callable

import click

from manage_api.cli.context import load_settings
from store.encryption.keyfiles import ENCRYPTION_KEY_FILE
from store.errors import StoreLocked, StoreUnavailable
from store.operations.opening import open_existing
from store.operations.rotation import Rotation
from store.runtime.lifecycle import CANNOT_START, note_stop_signals, or_exit
from store.runtime.settings import Settings

_INCOMPLETE = 1


@click.command(name="rotate")
def rotate_command() -> None:
    """Re-encrypt the store with the first key of ENCRYPTION_KEY."""
    stopped = note_stop_signals()
    sys.exit(run(load_settings(), stopped))


def run(settings: Settings, stopped: Callable[[], bool]) -> int:
    """Re-encrypt the store until everything is under the ring's first key, or until `stopped` returns True.

    Returns the exit status, 0 when everything is. Ends the process where there is no store, or it cannot be opened.
    """
    store = or_exit(lambda: open_existing(settings), CANNOT_START)
    rotation = Rotation(store)
    fault = _rotate(rotation, stopped, settings.store_timeout)
    store.database.close()
    if fault is not None:
        click.echo(f"{fault} {_done(rotation)} The ring opens the store as before: rotate again.", err=True)
        return _INCOMPLETE
    click.echo(_done(rotation) if rotation.resealed.total() else "There was nothing to do.")
    if rotation.unreadable:
        click.echo(_unreadable(rotation), err=True)
        return _INCOMPLETE
    click.echo(_unneeded(settings) if store.vault.ring.has_others else "Everything is under the only key of the ring.")
    return 0


def _rotate(rotation: Rotation, stopped: Callable[[], bool], timeout: float) -> str | None:
    """Run all batches. Returns the message of what ended them early, or None."""
    try:
        for _ in rotation.batches():
            if stopped():
                return "Stopped by a signal."
    except StoreLocked:
        return f"Another process has locked the store for longer than STORE_TIMEOUT ({timeout:g} s)."
    except StoreUnavailable as error:
        return f"The store does not answer: {error.__cause__}."
    return None


def _done(rotation: Rotation) -> str:
    done = rotation.resealed
    counts = f"keys of projects {done['project']}, tokens {done['token']}, secrets of the store {done['secret']}"
    return f"Re-encrypted with the first key of the ring: {counts}."


def _unreadable(rotation: Rotation) -> str:
    rows = [f"{row.table} {row.row_id}: {row.reason}" for row in rotation.unreadable]
    return "\n".join(
        [
            *rows,
            f"No key of the ring decrypts these {len(rows)}; they stay as they are. All else is under the first.",
            "PATCH the api_key of such a project. Such a token is admitted as before, but its value is not shown.",
        ]
    )


def _unneeded(settings: Settings) -> str:
    where = "ENCRYPTION_KEY" if settings.encryption_key else settings.data_dir.absolute() / ENCRYPTION_KEY_FILE
    return f"Nothing in the store needs the other keys of the ring: take them out of {where} and restart."
