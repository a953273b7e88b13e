"""The most that a request may use, of tokens and of money: what limits reserve for it."""

from typing import NamedTuple

from store.request import Amounts


class Bounds(NamedTuple):
    """The most that a request may use. Money is in COST_UNITs."""

    input_tokens: int
    usd: int
    """The cost of all but its output."""
    usd_each: int
    """The cost of a token of its output."""
    output: int | None
    """The tokens of output that the request allows itself; None without a bound of its own."""
    choices: int = 1
    """The answers that it asks for: what is usual for the output counts that often."""

    def with_output(self, tokens: int) -> Amounts:
        """Return the most that it uses with so many tokens of output."""
        return Amounts(self.input_tokens + tokens, self.usd + self.usd_each * tokens)

    def output_within(self, left: Amounts) -> int:
        """Return the tokens of output for which there is room, where so much is left."""
        of_tokens = max(left.tokens - self.input_tokens, 0)
        return min(of_tokens, max(left.usd - self.usd, 0) // self.usd_each) if self.usd_each else of_tokens


NOTHING_USED = Bounds(0, 0, 0, 0)
"""The bounds of a request that generates nothing."""
