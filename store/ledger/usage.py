"""Usage: the tokens and other units of a request, and the source that they are known from."""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

type Units = Mapping[str, int]
"""The number of each unit, under the names of genai-prices: `input_tokens`, `output_tokens`, `cache_read_tokens` ...

`input_tokens` and `output_tokens` are totals; the others are parts of them. A missing unit is unknown.
"""

COST_UNIT = 1_000_000_000_000
"""Units of cost in a US dollar: a price of up to six decimals for a million tokens is exact."""

MAX_COUNT = 2**40
"""Upper bound of one counter. Larger values are ignored as implausible; they would overflow the sums."""

COLUMNS: Mapping[str, str] = {
    "input_tokens": "input_tokens",
    "cached_input_tokens": "cache_read_tokens",
    "output_tokens": "output_tokens",
    "reasoning_tokens": "output_reasoning_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "output_audio_tokens": "output_audio_tokens",
}
"""The columns of the ledger that count units, each with its unit. A further one needs a migration and models too."""


class Source(StrEnum):
    """The source of a usage."""

    OBSERVED = "observed"
    """The upstream reported it."""
    ESTIMATED = "estimated"
    """Counted here, as the response was cut or reported no usage; the units are approximate, or only a part."""
    UNKNOWN = "unknown"


class Consumption(NamedTuple):
    """The usage of one model. A request has several over a WebSocket, or where the model that answers asks others."""

    model: str | None
    units: Units
    service_tier: str | None = None
    """`flex`, `priority` and the like, where the upstream named one; each has its own prices."""


class Metered(NamedTuple):
    """The usage that was read in a request and its response."""

    source: Source = Source.UNKNOWN
    consumptions: tuple[Consumption, ...] = ()
    model_asked: str | None = None
    model: str | None = None
    """The model that answered; the last one of several."""

    @property
    def units(self) -> Units:
        """The usage of all models, added up."""
        if len(self.consumptions) == 1:
            return self.consumptions[0].units
        total: Counter[str] = Counter()
        for used in self.consumptions:
            total.update(used.units)
        return total
