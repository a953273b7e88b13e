"""Runs a command on the store: opens it, prints the result or the error.

status  0    it is done, and the result is printed
        1    it is not, and the message says why: a rule refuses it, there is no store, or it does not answer
        2    bad settings, or a bad option

A command that judges what it reads has a status of its own for a result that is printed.
"""

import sys
from collections.abc import Callable
from typing import NoReturn

import click

from manage_api.cli import fields
from manage_api.cli.context import load_settings
from store.errors import GatewayError, OutcomeUnknown, StoreUnavailable
from store.operations.opening import open_existing
from store.runtime.lifecycle import CANNOT_START, interrupt_at_stop_signals, or_exit
from store.runtime.settings import Settings
from store.store import Store

_FAILED = 1


def on_store(act: Callable[[Store], str]) -> NoReturn:
    """Do something with the store, print what `act` returns, and end the process. A signal ends it with status 1."""
    interrupt_at_stop_signals()
    sys.exit(run(load_settings(), act))


def run(settings: Settings, read: Callable[[Store], str | bytes]) -> int:
    """Print what `read` returns. Returns the exit status; ends and raises as `run_judged` does."""
    return run_judged(settings, lambda store: (read(store), 0))


def run_judged(settings: Settings, read: Callable[[Store], tuple[str | bytes, int]]) -> int:
    """Print the text that `read` returns. Returns the exit status, which is that of `read` where it did not fail.

    Ends the process where there is no store, or it cannot be opened. Raises click.ClickException where `read` does.
    """
    store = or_exit(lambda: open_existing(settings), CANNOT_START)
    try:
        text, status = read(store)
        click.echo(text, nl=False)
    except OutcomeUnknown as error:
        click.echo(error.message, err=True)
        return _FAILED
    except StoreUnavailable as error:
        click.echo(f"The store does not answer: {error.__cause__}.", err=True)
        return _FAILED
    except GatewayError as error:
        click.echo(_told(error), err=True)
        return _FAILED
    finally:
        store.database.close()
    return status


def _told(error: GatewayError) -> str:
    message = fields.in_options(error.message)
    return f"{message}: {error.description}" if error.description else message
