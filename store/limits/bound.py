"""The most that a request may use, of tokens and of money: what limits reserve for it."""

from typing import NamedTuple

from store.request import Amounts


class Bound(NamedTuple):
    """The most that a request may use of one unit: `base` whatever its output is, and `each` for a token of output."""

    base: int
    each: int

    def with_output(self, tokens: int) -> int:
        """Return the bound for so many tokens of output."""
        return self.base + self.each * tokens

    def output_within(self, left: int) -> int | None:
        """Return the tokens of output for which there is room, where so much is left; None for any number."""
        return max(left - self.base, 0) // self.each if self.each else None


class Bounds(NamedTuple):
    """The most that a request may use; `usd` is in COST_UNITs."""

    tokens: Bound
    usd: Bound
    output: int | None
    """The tokens of output that the request allows itself; None without a bound of its own."""
    choices: int = 1
    """The answers that it asks for: what is usual for the output counts that often."""

    def with_output(self, tokens: int) -> Amounts:
        """Return the most that it uses with so many tokens of output."""
        return Amounts(self.tokens.with_output(tokens), self.usd.with_output(tokens))

    def output_within(self, left: Amounts) -> int | None:
        """Return the tokens of output for which there is room, where so much is left; None for any number."""
        of_tokens, of_usd = self.tokens.output_within(left.tokens), self.usd.output_within(left.usd)
        if of_tokens is None or of_usd is None:
            return of_usd if of_tokens is None else of_tokens
        return min(of_tokens, of_usd)


NOTHING_USED = Bounds(Bound(0, 0), Bound(0, 0), 0)
"""The bounds of a request that generates nothing."""
