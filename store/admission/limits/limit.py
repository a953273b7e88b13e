"""The base of the limits: what is asked of each while a batch is decided."""

import abc
from collections.abc import Sequence

from store.errors import RateLimited, TokenRefused
from store.request import Opening


class Limit(abc.ABC):
    """A limit, with its state while a batch is decided."""

    @abc.abstractmethod
    def test(self, opening: Opening) -> TokenRefused | None:
        """Return why one more request is refused, or None."""

    @abc.abstractmethod
    def hit(self, opening: Opening) -> None:
        """Count a request that all limits have let pass."""

    def wait(self) -> int:
        """Return the microseconds until it lets one more request pass; 0 for now, and where that is not known."""
        return 0


def first_refusal(limits: Sequence[Limit], opening: Opening) -> TokenRefused | None:
    """Return the refusal of the first limit that refuses a request, or None. One for a time names the longest wait."""
    for limit in limits:
        refusal = limit.test(opening)
        if isinstance(refusal, RateLimited):
            refusal.wait_for(max(each.wait() for each in limits))
        if refusal is not None:
            return refusal
    return None
