"""Slows down clients that send wrong management tokens, address by address.

Each process counts for itself, so with several an address may send as many more. The store does not count them: then
clients without a token could make it write, and that holds up requests. A token cannot be guessed at any rate; this
keeps a client in a loop, or a search, from taking the process's time and filling its log. Right tokens are never looked
at here: they are accepted at once from every address.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from store.errors import TooManyWrongTokens
from store.network.addresses import address, network

BURST = 10
"""Wrong tokens that an address may send at once."""

INTERVAL = 6.0
"""Seconds after which it may send one more."""

MOST_ADDRESSES = 10_000
"""Addresses that are remembered. The one that was counted last the longest ago is forgotten first."""

_PREFIX = 64
"""Bits of an IPv6 address that are compared: a customer has all addresses behind them."""


class WrongTokens:
    """Counts wrong tokens by address. `clock` returns seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._free_at: OrderedDict[str, float] = OrderedDict()  # when all that an address has sent is forgotten
        self._lock = threading.Lock()

    def count(self, client: str) -> None:
        """Count a wrong token of a client's address. Raises TooManyWrongTokens, and then does not count it."""
        place = _place(client)
        with self._lock:
            now = self._clock()
            free_at = max(self._free_at.get(place, 0.0), now)
            wait = free_at - now - (BURST - 1) * INTERVAL
            if wait > 0:
                raise TooManyWrongTokens(math.ceil(wait))
            self._free_at[place] = free_at + INTERVAL
            self._free_at.move_to_end(place)
            if len(self._free_at) > MOST_ADDRESSES:
                self._free_at.popitem(last=False)


def _place(client: str) -> str:
    """Return an address, or the network of an IPv6 address."""
    found = address(client)
    return str(network(f"{found}/{_PREFIX}", strict=False)) if found and found.version == 6 else client  # noqa: PLR2004
