"""What requests add up to."""

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple, Self

from store.ledger.money import usd


class UsageSums(NamedTuple):
    """Requests added up. Numbers of tokens are sums of what is known; `cost` is in `usage.COST_UNIT`s.

    `refused` requests are in no other number: `requests` are the admitted ones.
    """

    requests: int
    refused: int
    in_flight: int
    observed: int
    estimated: int
    unpriced: int
    request_bytes: int
    response_bytes: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    input_audio_tokens: int
    output_audio_tokens: int
    cost: int

    @property
    def unknown(self) -> int:
        """The requests that have ended and of whose usage nothing is known."""
        return self.requests - self.in_flight - self.observed - self.estimated

    @property
    def cost_usd(self) -> Decimal | None:
        """The known cost in US dollars; None where no request has one."""
        return usd(self.cost) if self.observed + self.estimated > self.unpriced else None

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        """Add up sums; of none, all numbers are 0."""
        return cls(*(sum(numbers) for numbers in zip((0,) * len(cls._fields), *parts, strict=True)))
