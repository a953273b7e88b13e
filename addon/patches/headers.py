"""Looks headers up as mitmproxy does, in a quarter of the time: some forty lookups a request call a function a field.

What is found is the same, to the letter; a test compares both.
"""

import functools
from collections.abc import Iterable

from mitmproxy.http import Headers

_init = Headers.__init__


def install() -> None:
    """Have all headers of the process looked up this way."""
    Headers.__init__ = _initialize  # type: ignore[method-assign]
    Headers.__getitem__ = _item  # type: ignore[method-assign,assignment]
    Headers.__contains__ = _contains  # type: ignore[method-assign,assignment]
    Headers.get = _get  # type: ignore[method-assign,assignment]
    Headers.get_all = _all  # type: ignore[method-assign]


def _initialize(self: Headers, fields: Iterable[tuple[bytes, bytes]] = (), **headers: str | bytes) -> None:
    if headers:
        _init(self, fields, **headers)
        return
    self.fields = tuple([(name, value) for name, value in fields])
    for name, value in self.fields:
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            raise TypeError("Header fields must be bytes.")


def _all(self: Headers, name: str | bytes) -> list[str]:
    wanted = _key(name)
    return [value.decode("utf-8", "surrogateescape") for key, value in self.fields if key.lower() == wanted]


def _item(self: Headers, name: str | bytes) -> str:
    values = _all(self, name)
    if not values:
        raise KeyError(name)
    return ", ".join(values)


def _get[Default](self: Headers, name: str | bytes, default: Default | None = None) -> str | Default | None:
    values = _all(self, name)
    return ", ".join(values) if values else default


def _contains(self: Headers, name: object) -> bool:
    wanted = _key(name)
    return any([key.lower() == wanted for key, _ in self.fields])  # noqa: C419 - a generator takes longer


@functools.lru_cache(maxsize=1024)
def _key(name: object) -> bytes:
    if isinstance(name, str):
        name = name.encode("utf-8", "surrogateescape")
    if not isinstance(name, bytes):
        raise TypeError(f"Expected str or bytes, but got {type(name).__name__}.")
    return name.lower()
