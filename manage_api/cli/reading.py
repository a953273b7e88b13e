"""How a command reads the store: it opens it, says what it found, or what is wrong."""

from collections.abc import Callable

import click

from store.bootstrap import Store, open_store
from store.errors import GatewayError, StoreUnavailable
from store.lifecycle import CANNOT_START, or_exit
from store.settings import Settings

_FAILED = 1


def run(settings: Settings, read: Callable[[Store], str]) -> int:
    """Print what `read` returns. Returns the exit status; ends the process where the store cannot be opened."""
    store = or_exit(lambda: open_store(settings), CANNOT_START)
    try:
        click.echo(read(store), nl=False)
    except StoreUnavailable as error:
        click.echo(f"The store does not answer: {error.__cause__}.", err=True)
        return _FAILED
    except GatewayError as error:
        click.echo(error.message, err=True)
        return _FAILED
    finally:
        store.database.close()
    return 0
