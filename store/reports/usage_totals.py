"""The totals of requests. A record apart from its SQL: the API and the CLI show it."""

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple, Self

from store.money import usd


class UsageSums(NamedTuple):
    """The sums of requests. Numbers of tokens are sums of the known ones; Costs are in `usage.COST_UNIT`s.

    `refused` requests count in no other number: `requests` are the admitted ones. The costs of `minimum` requests are
    lower bounds. `cost_where_told` is our cost of those whose cost the upstream told too.
    """

    requests: int
    refused: int
    in_flight: int
    observed: int
    estimated: int
    unpriced: int
    minimum: int
    request_bytes: int
    response_bytes: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    input_audio_tokens: int
    output_audio_tokens: int
    web_searches: int
    file_searches: int
    code_containers: int
    tool_calls: int
    images: int
    audio_seconds: int
    video_seconds: int
    told_cost: int
    cost_where_told: int
    cost: int

    @property
    def unknown(self) -> int:
        """The number of ended requests whose usage is unknown."""
        return self.requests - self.in_flight - self.observed - self.estimated

    @property
    def cost_usd(self) -> Decimal | None:
        """The sum of known costs in US dollars; None where no request has one."""
        return usd(self.cost) if self.observed + self.estimated > self.unpriced else None

    @property
    def told_cost_usd(self) -> Decimal:
        """The sum of the costs that the upstream told, in US dollars."""
        return usd(self.told_cost)

    @property
    def cost_where_told_usd(self) -> Decimal:
        """The sum of our costs of the same requests, in US dollars."""
        return usd(self.cost_where_told)

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        """Add up sums; of none, all numbers are 0."""
        return cls(*(sum(numbers) for numbers in zip((0,) * len(cls._fields), *parts, strict=True)))
