"""Amounts in US dollars: exact, and in decimal notation."""

from decimal import Decimal

from store.ledger.usage import COST_UNIT


def usd(cost: int) -> Decimal:
    """Return a cost, given in `usage.COST_UNIT`s, in US dollars."""
    return Decimal(cost) / COST_UNIT


def decimal_text(number: Decimal) -> str:
    """Return a number as text, with the decimals that it needs and no exponent."""
    return f"{number.normalize():f}"
