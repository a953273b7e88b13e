"""What is known of the tokens that a request took, and how it is known."""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

type Units = Mapping[str, int]
"""How many of each unit, under the names of genai-prices: `input_tokens`, `output_tokens`, `cache_read_tokens` ...

`input_tokens` and `output_tokens` are totals; the others are parts of them. A unit that is not there is not known.
"""

COST_UNIT = 1_000_000_000_000
"""In how many parts a US dollar is counted: a price of up to six decimals for a million tokens is exact."""

MAX_COUNT = 2**40
"""No unit of a request is counted higher: no upstream that tells more is to be believed, and sums have an end too."""

COLUMNS: Mapping[str, str] = {
    "input_tokens": "input_tokens",
    "cached_input_tokens": "cache_read_tokens",
    "output_tokens": "output_tokens",
    "reasoning_tokens": "output_reasoning_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "output_audio_tokens": "output_audio_tokens",
}
"""The columns of the ledger, and the unit that each of them counts."""


class Source(StrEnum):
    """How a usage is known."""

    OBSERVED = "observed"
    """The upstream said so."""
    ESTIMATED = "estimated"
    """Counted here, as the answer was cut or told no usage; the units are a part of the truth, or near it."""
    UNKNOWN = "unknown"


class Consumption(NamedTuple):
    """What one model was used for. A request has several at most over a WebSocket."""

    model: str | None
    units: Units
    service_tier: str | None = None
    """`flex`, `priority` and the like, where the upstream named one: each has prices of its own."""


class Metered(NamedTuple):
    """What was read in a request and its answer."""

    source: Source = Source.UNKNOWN
    consumptions: tuple[Consumption, ...] = ()
    model_asked: str | None = None
    model: str | None = None
    """The one that answered, the last one of several."""

    @property
    def units(self) -> Units:
        """What the models were used for, added up."""
        total: Counter[str] = Counter()
        for used in self.consumptions:
            total.update(used.units)
        return total
