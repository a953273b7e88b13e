"""The launcher with a duty taken out, to measure what that duty costs: `less metering`, `less ledger`.

`metering`: the rows are written, but nothing is read of requests and answers. `ledger`: there are no rows either.
"""

import sys

from addon import exchange
from addon.__main__ import main
from addon.metering.estimates.estimate_request import EstimateRequest
from addon.metering.meter import Meter
from store.admission.admission import Admission
from store.ledger.ledger import Ledger
from store.ledger.usage import Metered


class Blind(Meter):
    """Reads nothing."""

    def begin_request(self, content_type: str, content_coding: str) -> None:
        """See nothing."""

    def feed_request(self, data: bytes) -> None:
        """See nothing."""

    def begin_answer(self, status: int, content_type: str, content_coding: str) -> None:
        """See nothing."""

    def feed_answer(self, data: bytes) -> None:
        """See nothing."""

    def end_answer(self) -> None:
        """See nothing."""

    def read(self) -> Metered:
        """Know nothing."""
        return Metered()

    def estimate_request(self) -> EstimateRequest | None:
        """Ask nothing."""


def take_out(duty: str) -> None:
    """Replace what does a duty by what does nothing."""
    vars(exchange)["Meter"] = Blind
    if duty == "ledger":
        Ledger.open = lambda *_: None  # type: ignore[method-assign]
        Admission.settle = lambda *_: None  # type: ignore[method-assign]


if __name__ == "__main__":
    take_out(sys.argv.pop())
    main()
