"""Reads options as mitmproxy does, without a copy of what cannot be changed: it copies each value deeply, twice.

Layers read a dozen of them for each request.
"""

from mitmproxy.optmanager import _Option, unset

_current = _Option.current
_ATOMIC = (bool, int, str, type(None))


def install() -> None:
    """Have all options of the process read this way."""
    _Option.current = _read  # type: ignore[method-assign]


def _read(self: _Option) -> object:
    value = self._default if self.value is unset else self.value
    return value if isinstance(value, _ATOMIC) else _current(self)
