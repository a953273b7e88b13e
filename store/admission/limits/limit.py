"""The base of the limits: what is asked of each while a batch is decided."""

import abc
import functools
from collections.abc import Sequence
from typing import NamedTuple

from store.errors import RateLimited, TokenRefused
from store.limits.bound import Bounds
from store.limits.holds import Slot
from store.request import Amounts, Opening

MOST_OUTPUT = 10**13
"""Tokens of output that are reserved at most: more than any window has, and little enough for the store."""

MOST_AMOUNTS = Amounts(2**63, 2**63)
"""More than any limit has."""


class Asked(NamedTuple):
    """A request as limits see it: the most that it may use, and what is reserved of that."""

    opening: Opening
    at: int
    """The time of its admission (microseconds)."""
    reserved: Amounts = Amounts()
    is_in_headroom: bool = False
    """True if the headroom has found room for what it reserves, and is to take it; else each limit does."""


class Limit(abc.ABC):
    """A limit, with its state while a batch is decided."""

    @abc.abstractmethod
    def test(self, asked: Asked) -> TokenRefused | None:
        """Return why one more request is refused, or None."""

    @abc.abstractmethod
    def hit(self, asked: Asked) -> Slot | None:
        """Count a request that all limits have let pass. Returns the slot that is held for it, if one is."""

    def wait(self, asked: Asked) -> int:  # noqa: ARG002 - only some depend on it
        """Return the microseconds until it lets the request pass; 0 for now, and where that is not known."""
        return 0


class Reserving(Limit):
    """A limit for which an amount is reserved while a request runs."""

    @abc.abstractmethod
    def most(self, amounts: Amounts) -> Amounts:
        """Return as much of amounts as there is room for. If that is reserved, no other request is let pass."""

    @abc.abstractmethod
    def is_for(self, at: int) -> bool:
        """Tell whether it holds something for a request that was admitted at a time."""

    def advance(self, at: int) -> None:
        """Come to a time that is ahead of the clock."""

    @property
    @abc.abstractmethod
    def begins_at(self) -> int:
        """The earliest time of a request for which it holds something."""


def first_refusal(limits: Sequence[Limit], asked: Asked) -> TokenRefused | None:
    """Return the refusal of the first limit that refuses a request, or None. One for a time names the longest wait."""
    for limit in limits:
        refusal = limit.test(asked)
        if isinstance(refusal, RateLimited) and refusal.passes:
            refusal.wait_for(max(each.wait(asked) for each in limits))
        if refusal is not None:
            return refusal
    return None


def left_of(limits: Sequence[Reserving]) -> Amounts:
    """Return what is left of all limits together."""
    return functools.reduce(lambda left, limit: limit.most(left), limits, MOST_AMOUNTS)


def reserved(bounds: Bounds, usual_output: int, left: Amounts) -> Amounts:
    """Return what a request reserves: of all limits the same, so that its row can tell it.

    Without a bound of its own that is `usual_output` tokens of output, or as many as there is room for in what is left
    of the limits, and at least one: where nothing is left, a request whose input is free must not pass.
    """
    amounts = wanted(bounds, usual_output)
    if bounds.output is not None or (amounts.tokens <= left.tokens and amounts.usd <= left.usd):
        return amounts
    return bounds.with_output(max(min(usual_output * bounds.choices, bounds.output_within(left)), 1))


def wanted(bounds: Bounds, usual_output: int) -> Amounts:
    """Return what a request reserves where there is room for it."""
    output = usual_output * bounds.choices if bounds.output is None else min(bounds.output, MOST_OUTPUT)
    return bounds.with_output(output)
