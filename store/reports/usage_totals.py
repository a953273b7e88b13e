"""The totals of requests. A record apart from its SQL: the API and the CLI show it."""

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple, Self

from store.ledger.money import usd


class UsageSums(NamedTuple):
    """The sums of requests. Numbers of tokens are sums of the known ones; `cost` is in `usage.COST_UNIT`s.

    `refused` requests count in no other number: `requests` are the admitted ones.
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
        """The number of ended requests whose usage is unknown."""
        return self.requests - self.in_flight - self.observed - self.estimated

    @property
    def cost_usd(self) -> Decimal | None:
        """The sum of known costs in US dollars; None where no request has one."""
        return usd(self.cost) if self.observed + self.estimated > self.unpriced else None

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        """Add up sums; of none, all numbers are 0."""
        return cls(*(sum(numbers) for numbers in zip((0,) * len(cls._fields), *parts, strict=True)))
