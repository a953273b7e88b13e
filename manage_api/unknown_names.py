"""The words for names that no field and no parameter has: a typing error must not pass for a missing limit.

A client may send anything as a name, so it is shown short, printable and without secrets.
"""

import difflib
import re
from collections.abc import Sequence
from typing import Literal

from store.management.tokens import masked

MOST_NAMES = 50
"""Names that a message shows at most. It says how many more there are."""

LONGEST_NAME = 64
"""Characters that a message shows of a name at most."""


def complaint(kind: Literal["field", "parameter"], names: Sequence[str], known: Sequence[str]) -> str:
    """Name the unknown ones, each with the known one that it is near to, if any; otherwise list all known ones.

    The text goes on after a subject: "has unknown fields: ...".
    """
    subject = f"an unknown {kind}" if len(names) == 1 else f"unknown {kind}s"
    shown = [(_shown(name), _nearest(name, known)) for name in names[:MOST_NAMES]]
    listed = ", ".join(f"'{name}' (did you mean '{near}'?)" if near else f"'{name}'" for name, near in shown)
    more = f", and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    all_known = "" if all(near for _, near in shown) else f"; known {kind}s: {', '.join(known) or 'none'}"
    return f"has {subject}: {listed}{more}{all_known}"


def _shown(name: str) -> str:
    """Return a name as a message may quote it. A secret is masked before anything is cut from it."""
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in masked(name))
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 3]}..."


def _nearest(name: str, known: Sequence[str]) -> str | None:
    """Find the known name that is most like another; capitals, hyphens and underscores do not count."""
    plain = {_plain(each): each for each in known}
    matches = difflib.get_close_matches(_plain(name[:LONGEST_NAME]), plain, n=1)
    return plain[matches[0]] if matches else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()
