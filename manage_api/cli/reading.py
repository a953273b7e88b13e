"""Runs a command that reads the store: opens the store, prints the result or the error.

status  0    the result is printed
        1    it is not, and the message says why: there is no store, or it does not answer
        2    bad settings, or a bad option

A command that judges what it reads has a status of its own for a result that is printed.
"""

from collections.abc import Callable

import click

from store.errors import GatewayError, StoreUnavailable
from store.operations.opening import open_existing
from store.runtime.lifecycle import CANNOT_START, or_exit
from store.runtime.settings import Settings
from store.store import Store

_FAILED = 1


def run(settings: Settings, read: Callable[[Store], str | bytes]) -> int:
    """Print what `read` returns. Returns the exit status; ends and raises as `run_judged` does."""
    return run_judged(settings, lambda store: (read(store), 0))


def run_judged(settings: Settings, read: Callable[[Store], tuple[str | bytes, int]]) -> int:
    """Print the text that `read` returns. Returns the exit status, which is that of `read` where it did not fail.

    Ends the process where there is no store, or it cannot be opened. Raises click.BadParameter where `read` does.
    """
    store = or_exit(lambda: open_existing(settings), CANNOT_START)
    try:
        text, status = read(store)
        click.echo(text, nl=False)
    except StoreUnavailable as error:
        click.echo(f"The store does not answer: {error.__cause__}.", err=True)
        return _FAILED
    except GatewayError as error:
        click.echo(error.message, err=True)
        return _FAILED
    finally:
        store.database.close()
    return status
