from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.ledger.usage import COST_UNIT
from store.money import decimal_text, usd


@pytest.mark.parametrize(
    ("cost", "text"),
    [(0, "0"), (1, "0.000000000001"), (43_500_000, "0.0000435"), (COST_UNIT, "1"), (100 * COST_UNIT, "100")],
)
def test_cost_has_no_exponent(cost: int, text: str) -> None:
    assert decimal_text(usd(cost)) == text


@given(st.integers(0, 10**27))
def test_cost_is_exact(cost: int) -> None:
    assert Decimal(decimal_text(usd(cost))) * COST_UNIT == cost
