"""US dollars: exact, and written for people and programs alike."""

from decimal import Decimal

from store.ledger.usage import COST_UNIT


def usd(cost: int) -> Decimal:
    """Return a cost, counted in `usage.COST_UNIT`s, in US dollars."""
    return Decimal(cost) / COST_UNIT


def decimal_text(number: Decimal) -> str:
    """Write a number with the decimals that it needs, never with an exponent."""
    return f"{number.normalize():f}"
