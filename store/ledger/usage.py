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

MAX_COST = 2**53
"""Upper bound of one cost, about 9,000 dollars. A higher one is ignored as implausible."""

MAX_COUNT = 2**40
"""Upper bound of one counter. Larger values are ignored as implausible; they would overflow the sums."""

COLUMNS: Mapping[str, str] = {
    "input_tokens": "input_tokens",
    "cached_input_tokens": "cache_read_tokens",
    "output_tokens": "output_tokens",
    "reasoning_tokens": "output_reasoning_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "output_audio_tokens": "output_audio_tokens",
    "web_searches": "web_searches",
    "file_searches": "storage_searches",
    "code_containers": "code_containers",
    "tool_calls": "tool_calls",
    "images": "output_images",
    "audio_seconds": "audio_seconds",
    "video_seconds": "video_seconds",
}
"""The columns of the ledger that count units, each with its unit. A further one needs a migration and models too."""

BESIDE_TOKENS = tuple(column for column in COLUMNS if not column.endswith("_tokens"))
"""The columns among them that count something else than tokens."""

type Conditions = tuple[tuple[str, str], ...]
"""Names and values, under genai-prices' names, that change a price: a service tier, batch processing, a speed."""


class Source(StrEnum):
    """The source of a usage."""

    OBSERVED = "observed"
    """The upstream reported it."""
    ESTIMATED = "estimated"
    """Counted here, as the response was cut or reported no usage; the units are approximate, or only a part."""
    UNKNOWN = "unknown"


class Consumption(NamedTuple):
    """The usage of one model. A request has several over a WebSocket, and where an answer or a router tells several."""

    model: str | None
    units: Units
    conditions: Conditions = ()
    """Those that the upstream named; each may have its own prices."""
    told_cost: int | None = None
    """The cost that the upstream told, in COST_UNITs."""


class Told(NamedTuple):
    """The usage of an object of the upstream that has ended, as told by another request than the one that made it."""

    object_id: str
    consumptions: tuple[Consumption, ...]
    model: str | None


class Metered(NamedTuple):
    """The usage that was read in a request and its response."""

    source: Source = Source.UNKNOWN
    consumptions: tuple[Consumption, ...] = ()
    model_asked: str | None = None
    model: str | None = None
    """The model that answered; the last one of several."""
    is_minimum: bool = False
    """True if more may have been used than is known."""
    pending_id: str | None = None
    """The id of the object that was made, if a later request may tell its usage."""
    told: tuple[Told, ...] = ()
    """The usages of objects that other requests made."""

    @property
    def units(self) -> Units:
        """The usage of all models, added up."""
        if len(self.consumptions) == 1:
            return self.consumptions[0].units
        total: Counter[str] = Counter()
        for used in self.consumptions:
            total.update(used.units)
        return total
