"""Words the errors of unknown fields and parameters. A mistyped limit must not be ignored: it would be no limit.

A client may send anything as a name, so a message shows it short, printable and without secrets.
"""

import difflib
import re
from collections.abc import Sequence
from typing import Literal

from store.runtime.redaction import mask_secrets

MOST_NAMES = 50
"""Names in a message at most. It counts the rest."""

LONGEST_NAME = 64
"""Characters of a name in a message at most."""


def complaint(kind: Literal["field", "parameter"], names: Sequence[str], known: Sequence[str]) -> str:
    """Name the unknown names, each with its nearest known name. Lists all known names where one has none near it.

    The text is a predicate: "has unknown fields: ...".
    """
    subject = f"an unknown {kind}" if len(names) == 1 else f"unknown {kind}s"
    shown = [(_shown(name), _nearest(name, known)) for name in names[:MOST_NAMES]]
    listed = ", ".join(f"'{name}' (did you mean '{near}'?)" if near else f"'{name}'" for name, near in shown)
    more = f", and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    all_known = "" if all(near for _, near in shown) else f"; known {kind}s: {', '.join(known) or 'none'}"
    return f"has {subject}: {listed}{more}{all_known}"


def _shown(name: str) -> str:
    """Return a name in the form for a message. Secrets are masked before it is shortened."""
    text = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in mask_secrets(name)
    )
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 3]}..."


def _nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the most similar known name, if one is near. Case, hyphens and underscores are ignored."""
    plain = {_plain(each): each for each in known}
    matches = difflib.get_close_matches(_plain(name[:LONGEST_NAME]), plain, n=1)
    return plain[matches[0]] if matches else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()
