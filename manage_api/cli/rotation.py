"""`llm-proxy rotate`: its messages and exit statuses. `store.operations.rotation` does the work."""

import sys
from collections.abc import Callable

import click

from manage_api.cli import options, table
from manage_api.cli.context import load_settings, place_of_encryption_key
from store.errors import StoreLocked, StoreUnavailable
from store.operations.opening import open_existing
from store.operations.rotation import Rotation
from store.runtime.lifecycle import CANNOT_START, note_stop_signals, or_exit
from store.runtime.settings import Settings

_INCOMPLETE = 1

_TABLES = ("project", "token", "secret")


@click.command(name="rotate")
@options.as_json
def rotate_command(*, as_json: bool) -> None:
    """Re-encrypt the store with the first key of ENCRYPTION_KEY."""
    stopped = note_stop_signals()
    sys.exit(run(load_settings(), stopped, as_json=as_json))


def run(settings: Settings, stopped: Callable[[], bool], *, as_json: bool = False) -> int:
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
    others = place_of_encryption_key(settings) if store.vault.ring.has_others and not rotation.unreadable else None
    click.echo(_as_json(rotation, others) if as_json else _told(rotation, others))
    if rotation.unreadable:
        click.echo(_unreadable(rotation), err=True)
        return _INCOMPLETE
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


def _told(rotation: Rotation, others: str | None) -> str:
    """Return what was done; where all is under the first key, also that the others are not needed."""
    done = _done(rotation) if rotation.resealed.total() else "There was nothing to do."
    if rotation.unreadable:
        return done
    if others is None:
        return f"{done}\nEverything is under the only key of the ring."
    return f"{done}\nNothing in the store needs the other keys of the ring: take them out of {others} and restart."


def _as_json(rotation: Rotation, others: str | None) -> str:
    shown = {
        "rows": {name: rotation.resealed[name] for name in _TABLES},
        "unreadable": [row._asdict() for row in rotation.unreadable],
        "unneeded_keys": others,
    }
    return table.as_json(shown).rstrip()


def _unreadable(rotation: Rotation) -> str:
    rows = [f"{row.table} {row.row_id}: {row.reason}" for row in rotation.unreadable]
    return "\n".join(
        [
            *rows,
            f"No key of the ring decrypts these {len(rows)}; they stay as they are. All else is under the first.",
            "PATCH the api_key of such a project. Such a token is admitted as before, but its value is not shown.",
        ]
    )
