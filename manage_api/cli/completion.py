"""Names of projects and tokens, for the completion of a shell. Where they cannot be read, none is offered."""

import contextlib
import logging
import os
import re
from collections.abc import Callable, Sequence

import click

from store.runtime.settings import Settings

_SPECIAL = re.compile(r"([^\w@%+=:,./-])")
"""The characters of a name that bash takes for its own. Click's script for bash reads backslashes as escapes."""


def projects(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of projects that begin with a text."""
    from store.management import names  # noqa: PLC0415 - the options are imported without the store too

    return _complete(names.projects_that_begin, incomplete)


def tokens(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of tokens that begin with a text."""
    from store.management import names  # noqa: PLC0415

    return _complete(names.tokens_that_begin, incomplete)


def admins(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of administrators that begin with a text."""
    from store.management import admins  # noqa: PLC0415

    return _complete(admins.that_begin, incomplete)


def _complete(names_of: Callable[..., Sequence[str]], incomplete: str) -> list[str]:
    from store.operations.opening import open_existing  # noqa: PLC0415

    logging.disable()
    try:
        database = open_existing(Settings.load()).database
        with contextlib.closing(database), database.read():
            found = names_of(database, incomplete)
    except Exception:
        return []
    finally:
        logging.disable(logging.NOTSET)
    in_bash = os.environ.get("_LLM_PROXY_COMPLETE", "").startswith("bash")
    return [_SPECIAL.sub(r"\\\\\1", name) if in_bash else name for name in found if name.isprintable()]
