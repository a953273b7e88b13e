"""Replaces parts of mitmproxy for the whole process: those attributes of its modules and classes that no hook reaches.

The originals are kept, so that a test can put them back.
"""

from typing import Any

_INHERITED = object()
_originals: dict[tuple[Any, str], object] = {}


def replace(owner: object, name: str, value: object) -> None:
    """Set an attribute of a module or a class; its first value is kept for `restore_all`."""
    _originals.setdefault((owner, name), vars(owner).get(name, _INHERITED))
    setattr(owner, name, value)


def restore_all() -> None:
    """Give every attribute that was replaced its original value."""
    while _originals:
        (owner, name), original = _originals.popitem()
        if original is _INHERITED:
            delattr(owner, name)
        else:
            setattr(owner, name, original)
