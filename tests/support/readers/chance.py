"""The choices of bodies with tricks, and bytes changed at random."""

import random
from collections.abc import Sequence


class Chance(random.Random):
    """Chooses tricks, so rarely that many bodies stay valid, and some have one alone."""

    rate = 1.0

    def begin(self) -> None:
        """Choose how many tricks the next body has."""
        self.rate = self.choice((0.1, 0.3, 0.6, 1.0, 2.0))

    def is_odd(self, one_in: int = 40) -> bool:
        """Tell whether to do something unusual."""
        return self.random() * one_in < self.rate


def mutated(body: bytes, chance: Chance, pieces: Sequence[bytes]) -> bytes:
    """Return a body with a few bytes replaced, added, repeated or left out."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        start = chance.randrange(len(body) + 1)
        end = min(len(body), start + chance.choice((0, 0, 1, 2, 10)))
        piece = body[chance.randrange(len(body) + 1) :][:12] if chance.is_odd(5) else chance.choice(pieces)
        body = body[:start] + piece + body[end:]
    return body[: chance.randrange(1, len(body) + 1)] if chance.is_odd(20) else body
