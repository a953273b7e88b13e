"""Remembers what pure functions of a short text return: of names and paths, which repeat with each request.

It is not for values of headers and queries, nor for texts that users write: they may be secret, and do not repeat.
"""

from collections.abc import Callable

_MOST = 1024
"""Texts whose results are remembered."""
_LONGEST = 256
"""Characters or bytes of such a text."""


def remembered[K: str | bytes, V](function: Callable[[K], V]) -> Callable[[K], V]:
    """Return a function that returns what a pure function does, and calls it once for a text that is not long."""
    return _Results(function).__getitem__


class _Results[K: str | bytes, V](dict[K, V]):
    """Results by their texts. A dictionary finds them several times as fast as a cache that has to check lengths."""

    def __init__(self, function: Callable[[K], V]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, text: K) -> V:
        result = self._function(text)
        if len(text) <= _LONGEST:
            if len(self) >= _MOST:
                self.clear()
            self[text] = result
        return result
