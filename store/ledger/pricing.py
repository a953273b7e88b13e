"""Pricing of usage: by the operator's own prices, else by list prices. Without a price there is no cost."""

import logging

from store import clock
from store.database import Database
from store.ledger import listed_prices
from store.ledger.own_prices import OwnPrices, quote_of
from store.ledger.quote import Charge, Quote
from store.ledger.usage import Conditions, Consumption

VERSION = "(SELECT COUNT(*) || ' ' || COALESCE(MAX(updated_at), 0) FROM price)"
"""SQL of a text that changes with the operator's own prices."""

_log = logging.getLogger(__name__)


class Pricing:
    """The prices of models. Not for several threads at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._own = OwnPrices({})
        self._own_version = ""

    def refresh(self, version: str = "") -> None:
        """Read the operator's own prices again if they have changed; in a transaction.

        `version` is the VERSION that it has read; without it, that is read here.
        """
        if not version:
            ((version,),) = self._database.execute(f"SELECT {VERSION}", ())
        if version != self._own_version:
            rows = self._database.execute("SELECT project_id, model, rates FROM price", ())
            read = {(project_id, model): quote_of(rates) for project_id, model, rates in rows}
            self._own = OwnPrices({place: price for place, price in read.items() if price is not None})
            self._own_version = version

    def charge(
        self, project_id: str, upstream: str | None, used: Consumption, model_asked: str | None, at: int
    ) -> Charge | None:
        """Return the cost to a project of a usage of an upstream (its origin) at a time, or None if it is unknown."""
        quote = self.quote(project_id, upstream or "", (used.model, model_asked), used.conditions, at)
        return None if quote is None else charge_by(quote, used, used.model or model_asked or "")

    def quote(
        self, project_id: str, upstream: str, models: tuple[str | None, str | None], conditions: Conditions, at: int
    ) -> Quote | None:
        """Return the price of a model of an upstream for a project at a time, or None if it has none.

        `models` are its names in the response and in the request; None where one is not known.
        """
        answered, asked = models
        try:
            own = self._own.find(project_id, answered, asked)
            return own or listed_prices.quote(answered or asked or "", upstream, conditions, at // clock.SECOND)
        except Exception:
            _log.exception("the price of a model cannot be found")
            return None


def charge_by(quote: Quote, used: Consumption, model: str) -> Charge | None:
    """Return the cost of a usage of a model by a price; None where it is not known."""
    try:
        return quote.charge(used, model)
    except (ValueError, ArithmeticError):  # units that contradict each other
        return None
    except Exception:
        _log.exception("the cost of a usage cannot be computed")
        return None


def warm() -> None:
    """Load the prices, so that the first request that needs one does not wait for that."""
    listed_prices.find("", "")
