"""Patterns in which `*` stands for any characters, and for none: endpoints and models of policies, models of prices."""

import functools

ANY = "*"


def matches(pattern: str, text: str) -> bool:
    """Tell whether a whole text matches a pattern.

    The pieces between the `*` are searched from left to right: each takes the time of a search, however many there are.
    """
    first, *others = _pieces(pattern)
    if not others:
        return text == first
    if not text.startswith(first):
        return False
    *middle, last = others
    end = len(first)
    for piece in middle:
        start = text.find(piece, end)
        if start < 0:
            return False
        end = start + len(piece)
    return len(text) - len(last) >= end and text.endswith(last)


@functools.lru_cache(maxsize=1024)
def _pieces(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.split(ANY))
