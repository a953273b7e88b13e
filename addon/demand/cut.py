"""A string of a body that is too long to be kept: its beginning, and the count of what it holds."""

from dataclasses import dataclass

from addon.demand.texts import TextBound


@dataclass(frozen=True, slots=True)
class Cut:
    """Stands in the place of a string where a large body is read as an outline.

    `start` is the beginning of the string: 256 bytes tell the size of most images, 64 KiB that of all but a few.
    `size` is the number of bytes of the whole string, and `bound` has counted them. Of a file in a form, `start` has a
    character for each byte.
    """

    start: str
    size: int
    bound: TextBound


TEXTS = (str, Cut)
"""The types of a string in a body."""
