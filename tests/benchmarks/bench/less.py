"""The launcher without a duty or a patch, to measure its cost or saving: `less metering`, `less headers`.

Without `metering` the rows are written, but nothing is read of requests and responses. Without `ledger` there are no
rows either.
"""

import importlib
import sys

from addon import exchange
from addon.__main__ import main
from addon.metering.estimates.estimate_request import EstimateRequest
from addon.metering.meter import Meter
from addon.serving import lean_imports
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


DUTIES = ("metering", "ledger")
PATCHES = {
    "headers": ("fast_paths", "install"),
}
"""The patches that are there for speed: the module in addon/patches, and the function that installs them."""


def take_out(name: str) -> None:
    """Replace a duty or a patch by a function that does nothing."""
    if name in PATCHES:
        lean_imports.install()  # as the launcher does before it imports the patches
        module, function = PATCHES[name]
        vars(importlib.import_module(f"addon.patches.{module}"))[function] = lambda *_: None
        return
    vars(exchange)["Meter"] = Blind
    if name == "ledger":
        Ledger.open = lambda *_: None  # type: ignore[method-assign]
        Admission.settle = lambda *_: None  # type: ignore[method-assign]


if __name__ == "__main__":
    take_out(sys.argv.pop())
    main()
