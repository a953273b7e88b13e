import json
from decimal import Decimal

import pytest
from support.stores.stores import API_KEY, UNKNOWN_TOKEN

from store import clock
from store.database.models import Price
from store.errors import NotFound
from store.management.prices import OwnPrices, PriceRecord
from store.management.projects import Projects
from store.store import Store

RATES = {"input": Decimal("2.5"), "output": Decimal(10)}


@pytest.fixture
def prices(store: Store) -> OwnPrices:
    return OwnPrices(store)


@pytest.fixture
def project_id(store: Store) -> str:
    return Projects(store).create("One", API_KEY).id


def test_a_price_is_kept_as_decimal_texts(prices: OwnPrices) -> None:
    before = clock.now()
    price = prices.set({"output": Decimal("1E+2"), "input": Decimal("0.1500000")}, model="gpt-4o")
    assert json.loads(Price.get().rates) == {"input": "0.15", "output": "100"}
    assert price == PriceRecord(
        price.id, None, "gpt-4o", {"input": Decimal("0.15"), "output": Decimal(100)}, price.updated_at
    )
    assert before <= price.updated_at <= clock.now()
    assert prices.list() == [price]


def test_rates_are_rounded_to_six_decimals(prices: OwnPrices) -> None:
    rates = prices.set({"input": Decimal("0.00000049"), "output": Decimal("999999.9999990")}, model="m").rates
    assert rates == {"input": Decimal(0), "output": Decimal("999999.999999")}


def test_the_price_of_the_same_project_and_model_is_replaced(prices: OwnPrices, project_id: str) -> None:
    first = prices.set(RATES, project_id=project_id, model="gpt-4o")
    second = prices.set({"input": Decimal(3)}, project_id=project_id, model="gpt-4o")
    assert second.id == first.id
    assert prices.list() == [second]


def test_prices_of_a_project_alone_or_a_model_alone_are_kept_beside_it(prices: OwnPrices, project_id: str) -> None:
    for key in ({"project_id": project_id, "model": "m"}, {"project_id": project_id}, {"model": "m"}):
        prices.set(RATES, **key)
    listed = [(price.project_id, price.project_name, price.model) for price in prices.list()]
    assert listed == [(None, None, "m"), (project_id, "One", None), (project_id, "One", "m")]


def test_a_price_for_an_unknown_project_is_refused(prices: OwnPrices) -> None:
    with pytest.raises(NotFound, match="no such project"):
        prices.set(RATES, project_id=UNKNOWN_TOKEN)
    assert prices.list() == []


def test_a_price_is_deleted_once(prices: OwnPrices) -> None:
    price = prices.set(RATES, model="m")
    prices.delete(price.id)
    assert prices.list() == []
    with pytest.raises(NotFound, match="no such price"):
        prices.delete(price.id)


def test_deleting_a_project_deletes_its_prices(store: Store, prices: OwnPrices, project_id: str) -> None:
    kept = prices.set(RATES, model="m")
    prices.set(RATES, project_id=project_id)
    Projects(store).delete(project_id)
    assert prices.list() == [kept]
