"""The context of a command: its settings, and the folder of the caller."""

import logging
from pathlib import Path

import click

from store.encryption.keyfiles import ENCRYPTION_KEY_FILE
from store.runtime import logs
from store.runtime.lifecycle import BAD_SETTINGS, or_exit
from store.runtime.settings import Settings

CALLER = "caller"
"""The parameter of the main command that holds the folder from which relative paths of the command line count."""


def at_caller(context: click.Context, path: Path) -> Path:
    """Return a path as the caller of the command means it: run.sh changes into its own folder, where `.env` is."""
    return Path(context.find_root().params.get(CALLER, "")) / path


def load_settings() -> Settings:
    """Read the settings and configure the log. Ends the process where they are bad.

    The log shows warnings and errors alone: commands print what they do.
    """
    settings = or_exit(Settings.load, BAD_SETTINGS)
    configure_log(settings)
    settings.warn()
    return settings


def place_of_encryption_key(settings: Settings) -> str:
    """Return where the encryption key is: the name of the setting, or its file."""
    return "ENCRYPTION_KEY" if settings.encryption_key else str(settings.data_dir.absolute() / ENCRYPTION_KEY_FILE)


def configure_log(settings: Settings) -> None:
    """Log warnings and errors, less where LOG_LEVEL says so."""
    logs.configure(max(settings.log_threshold, logging.WARNING), settings.log_format)
