"""The entries of `allowed_endpoints`: a method and a path, in which `*` stands for any characters.

An entry is compared with the path decoded once, without query and trailing slash. Upstreams differ in how they read
odd paths: they decode them twice, or drop characters. So a path that any of them may read differently matches nothing.
"""

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from store.wildcards import ANY, matches

MAX_ENTRY = 512
"""Characters of an entry."""

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", ANY})
_PATH = re.compile(r"(?:/v1[/*]|\*)[!-~]*")
_ODD = re.compile(r"[%?#\\]")
_READ_ALIKE = re.compile(rb"[!-$&-~]+")
"""Visible ASCII without '%': every upstream reads such a path alike."""


class Call(NamedTuple):
    """A method, and a path as entries are compared with it."""

    method: str
    path: str


def call(method: str, path: str) -> Call | None:
    """Return a request as entries are compared with it, by its path as it was sent.

    None for a path that upstreams may read variously. The path has passed validation, so that it has no segments `.`,
    `..` or empty ones.
    """
    decoded = unquote_to_bytes(path)
    if not _READ_ALIKE.fullmatch(decoded):
        return None
    return Call(method, decoded.decode("ascii").removesuffix("/"))


def fault(entry: str) -> str | None:
    """Return what is wrong with an entry, as the end of a sentence; None for a good one."""
    if entry == ANY:
        return None
    method, _, path = entry.partition(" ")
    if len(entry) > MAX_ENTRY or method not in _METHODS or not _PATH.fullmatch(path):
        return (
            "must be a method (or '*') and a path, such as 'POST /v1/chat/completions' or '* /v1/files*'; it has at "
            f"most {MAX_ENTRY} characters, and '*' stands for any."
        )
    if _ODD.search(path):
        return "must not hold '%', '?', '#' or a backslash: the path is compared decoded, and without its query."
    if path.endswith("/"):
        return "must not end in '/': the path is compared without a trailing slash."
    return None


def allows(entry: str, asked: Call) -> bool:
    """Tell whether an entry matches a request."""
    return matches(entry, f"{asked.method} {asked.path}")


def opens(entry: str, asked: Call, reserved: str) -> bool:
    """Tell whether an entry opens a reserved endpoint: it matches, and writes out the part that is refused.

    `reserved` is that part of the path. An entry may have `*` for what is behind it.
    """
    literal = entry.partition(" ")[2].partition(ANY)[0]
    return allows(entry, asked) and f"{literal}/".startswith(f"{reserved}/")
