"""Objects that one request makes and another tells the end of: responses in the background, runs, batches, videos.

The answer that makes one names its id and a status under way; a later one names the id, how it ended and the usage.
"""

import re

from addon.protocol.json_fields import Fields, text

_OBJECTS = {"batch", "eval.run", "response", "thread.run", "video"}

_UNDER_WAY = frozenset({
    "cancelling", "finalizing", "in_progress", "queued", "requires_action", "validating",
})  # fmt: skip

_ID = re.compile(r"[A-Za-z0-9_-]{1,90}")


def pending_id(answer: Fields) -> str | None:
    """Return the id of an object that is under way; None for anything else."""
    return _id(answer) if text(answer, "status") in _UNDER_WAY else None


def ended_id(answer: Fields) -> str | None:
    """Return the id of an object that has ended; None for anything else."""
    status = text(answer, "status")
    return _id(answer) if status and status not in _UNDER_WAY else None


def _id(answer: Fields) -> str | None:
    found = text(answer, "id")
    return found if text(answer, "object") in _OBJECTS and _ID.fullmatch(found) else None
