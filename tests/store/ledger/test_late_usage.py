import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from support.stores.stores import opening, rows

from store import clock
from store.clock import DAY
from store.ledger import retention, rollups
from store.ledger.ledger import Ledger, Outcome, Settlement
from store.ledger.usage import Consumption, Metered, Source, Told
from store.request import Opened
from store.store import Store

MODEL = "gpt-5-2025-08-07"
UNITS = {"input_tokens": 1000, "output_tokens": 5000}
COST = 51_250_000_000  # 1,000 x 1.25 + 5,000 x 10 USD for a million
MADE = Metered(model_asked="gpt-5", model=MODEL, pending_id="resp_1")
TOLD = Told("resp_1", (Consumption(MODEL, UNITS),), MODEL)
OUTCOME = Outcome(status=200, duration_ms=9, request_bytes=120, response_bytes=400, upstream="https://api.openai.com")


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store.database)


@pytest.fixture
def other(store: Store) -> Ledger:
    """The ledger of another process."""
    return Ledger(store.database)


def request(
    store: Store, ledger: Ledger, metered: Metered, *, at: int | None = None, project_id: str = "project"
) -> str:
    """Open and settle a row; return its id."""
    asked = opening("/v1/responses")
    row = Opened(asked.request_id, clock.now() if at is None else at, project_id, "token", asked.endpoint)
    with store.database.write():
        ledger.open("instance", [(asked, row)])
    with store.database.write():
        ledger.settle_each([Settlement(row, OUTCOME, metered)])
    return asked.request_id


def tell(store: Store, ledger: Ledger, *told: Told) -> str:
    return request(store, ledger, Metered(told=told))


def row_of(store: Store, request_id: str) -> Mapping[str, Any]:
    (found,) = [row for row in rows(store, "request") if row["id"] == request_id]
    return found


def totals(store: Store) -> list[dict[str, int]]:
    """Return the sums of all hours, and of all days."""
    return [
        {name: sum(row[name] for row in rows(store, table)) for name in rollups.AMOUNTS} for table in rollups.TABLES
    ]


def test_a_usage_is_booked_on_the_request_that_made_the_object(store: Store, ledger: Ledger, other: Ledger) -> None:
    made = request(store, ledger, MADE)
    assert row_of(store, made)["usage_source"] == "unknown"
    asked_again = tell(store, other, TOLD)
    row = row_of(store, made)
    assert (row["usage_source"], row["input_tokens"], row["output_tokens"]) == ("observed", 1000, 5000)
    assert (row["cost"], row["cost_is_minimum"], row["model"], row["model_asked"]) == (COST, 0, MODEL, "gpt-5")
    assert json.loads(row["price"])[MODEL]["input_mtok"] == "1.25"
    assert row_of(store, asked_again)["usage_source"] == "unknown"
    for sums in totals(store):
        assert (sums["requests"], sums["observed"], sums["unpriced"]) == (2, 1, 0)
        assert (sums["input_tokens"], sums["output_tokens"], sums["cost"]) == (1000, 5000, COST)
        assert sums["response_bytes"] == 800
    assert rows(store, "pending_usage") == []


def test_it_is_booked_once(store: Store, ledger: Ledger, other: Ledger) -> None:
    request(store, ledger, MADE)
    tell(store, ledger, TOLD, TOLD)
    before = totals(store)
    tell(store, other, TOLD)
    tell(store, ledger, Told("resp_1", (Consumption(MODEL, {"input_tokens": 9, "output_tokens": 9}),), MODEL))
    for sums, earlier in zip(totals(store), before, strict=True):
        assert {**sums, "requests": 0, "request_bytes": 0, "response_bytes": 0} == {
            **earlier,
            "requests": 0,
            "request_bytes": 0,
            "response_bytes": 0,
        }


def test_it_replaces_an_estimate(store: Store, ledger: Ledger) -> None:
    guess = (Consumption(MODEL, {"input_tokens": 900, "output_tokens": 10}),)
    made = request(store, ledger, MADE._replace(source=Source.ESTIMATED, consumptions=guess, is_minimum=True))
    assert [sums["minimum"] for sums in totals(store)] == [1, 1]
    tell(store, ledger, TOLD)
    assert row_of(store, made)["output_tokens"] == 5000
    for sums in totals(store):
        assert (sums["estimated"], sums["minimum"], sums["observed"]) == (0, 0, 1)
        assert (sums["input_tokens"], sums["output_tokens"], sums["cost"]) == (1000, 5000, COST)


def test_it_is_added_to_the_day_of_the_request(store: Store, ledger: Ledger) -> None:
    request(store, ledger, MADE, at=clock.now() - 3 * DAY)
    tell(store, ledger, TOLD)
    first, second = sorted(rows(store, "daily_usage"), key=lambda row: row["start"])
    assert (first["model"], first["output_tokens"], first["requests"]) == (MODEL, 5000, 1)
    assert (second["model"], second["output_tokens"], second["requests"]) == ("", 0, 1)


def test_an_object_that_ended_without_usage_stays_unknown(store: Store, ledger: Ledger) -> None:
    made = request(store, ledger, MADE)
    tell(store, ledger, Told("resp_1", (), MODEL))
    assert row_of(store, made)["usage_source"] == "unknown"
    assert rows(store, "pending_usage") == []


def test_an_object_whose_usage_is_known_is_not_expected(store: Store, ledger: Ledger) -> None:
    request(store, ledger, MADE._replace(source=Source.OBSERVED, consumptions=TOLD.consumptions))
    assert rows(store, "pending_usage") == []
    tell(store, ledger, TOLD)
    assert [sums["output_tokens"] for sums in totals(store)] == [5000, 5000]


def test_an_unknown_object_changes_nothing(store: Store, ledger: Ledger) -> None:
    made = request(store, ledger, MADE)
    tell(store, ledger, TOLD._replace(object_id="resp_2"))
    tell(store, ledger, TOLD._replace(object_id="resp_\x00"))
    assert row_of(store, made)["usage_source"] == "unknown"
    assert [row["request_id"] for row in rows(store, "pending_usage")] == [made]


def test_several_objects_are_booked_at_once(store: Store, ledger: Ledger) -> None:
    made = [request(store, ledger, MADE._replace(pending_id=f"resp_{number}")) for number in range(3)]
    tell(store, ledger, *(TOLD._replace(object_id=f"resp_{number}") for number in (2, 0, 1)))
    assert [row_of(store, request_id)["output_tokens"] for request_id in made] == [5000] * 3
    assert [sums["output_tokens"] for sums in totals(store)] == [15_000] * 2


def test_what_is_pending_is_deleted_with_its_row(store: Store, ledger: Ledger) -> None:
    request(store, ledger, MADE, at=clock.now() - 9 * DAY)
    retention.clean(store.database, 5, threading.Event())
    assert rows(store, "pending_usage") == []
    assert rows(store, "request") == []
    tell(store, ledger, TOLD)
    assert sum(row["output_tokens"] for row in rows(store, "daily_usage")) == 0


def test_objects_of_several_projects_may_have_one_id(store: Store, ledger: Ledger) -> None:
    made = [request(store, ledger, MADE, project_id=project_id) for project_id in ("one", "other")]
    request(store, ledger, Metered(told=(TOLD,)), project_id="third")
    assert [row_of(store, request_id)["output_tokens"] for request_id in made] == [None, None]
    request(store, ledger, Metered(told=(TOLD,)), project_id="other")
    assert [row_of(store, request_id)["output_tokens"] for request_id in made] == [None, 5000]
