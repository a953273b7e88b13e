"""Asks at the terminal: whether to go on with what destroys, and for an upstream's key.

A key comes from a hidden prompt or from standard input, and never from the command line: all users of the machine see
that, and a shell keeps it.
"""

import sys

import click

_LONGEST_LINE = 16 * 1024
"""Bytes of standard input that are read for a key at most."""


def confirm(lost: str, *, yes: bool) -> None:
    """Go on where `yes` was given, or the answer on a terminal is yes. `lost` says what will be lost.

    Raises click.Abort where the answer is no, click.UsageError where there is no terminal.
    """
    if yes:
        return
    if not _is_terminal():
        raise click.UsageError(f"{lost} Without a terminal to ask at, this needs --yes.")
    click.confirm(f"{lost} Go on?", abort=True, err=True)


def key() -> str:
    """Read an upstream's key, from a hidden prompt on a terminal, otherwise from the first line of standard input."""
    if _is_terminal():
        prompted: str = click.prompt("The upstream's API key (hidden)", hide_input=True, err=True)
        return prompted
    line = sys.stdin.buffer.readline(_LONGEST_LINE)
    return line.decode(errors="replace").rstrip("\r\n")


def _is_terminal() -> bool:
    return sys.stdin.isatty()
