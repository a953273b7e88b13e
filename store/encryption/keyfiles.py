"""Reads secrets that are kept in DATA_DIR, and makes them at the first start; only their owner can read them."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

ENCRYPTION_KEY_FILE = "encryption_key"
MANAGEMENT_TOKEN_FILE = "management_token"  # noqa: S105 - a file's name


def read(path: Path) -> str | None:
    """Return the secret in `path`, unchecked, or None where there is no such file."""
    try:
        return path.read_text(errors="replace").strip()
    except FileNotFoundError:
        return None


def read_or_make(path: Path, make: Callable[[], str]) -> str:
    """Return the secret in `path`, making it where there is none. Of several makers at once, one wins."""
    secret = read(path)
    if secret is not None:
        return secret
    descriptor, draft = tempfile.mkstemp(dir=path.parent)  # mode 600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(make() + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link appears whole or not at all, and never replaces a file.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        Path(draft).unlink()
    return path.read_text(errors="replace").strip()
