import json
import logging
import random
import threading
from decimal import Decimal

import pytest
from support.stores.stores import opening, rows

from store import clock
from store.database.models import Price
from store.ledger import retention, rollups, usage
from store.ledger.ledger import MAX_MODELS, Ledger, Outcome, Settlement
from store.ledger.rollups import OTHER_MODELS, Table
from store.ledger.usage import COLUMNS, Consumption, Metered, Source
from store.management.prices import OwnPrices
from store.reports.request_list import RequestList
from store.request import Opened, Opening
from store.store import Store

PROJECT, TOKEN, INSTANCE = "project", "token", "instance"
UNITS = {"input_tokens": 1000, "cache_read_tokens": 600, "output_tokens": 300, "output_reasoning_tokens": 128}
METERED = Metered(Source.OBSERVED, (Consumption("gpt-4o-mini", UNITS),), "gpt-4o-mini", "gpt-4o-mini-2024-07-18")
BESIDE_TOKENS = [name for name in COLUMNS if not name.endswith("_tokens")]
OUTCOME = Outcome(
    status=200,
    streamed=True,
    duration_ms=1500,
    first_byte_ms=400,
    request_bytes=120,
    response_bytes=4567,
    upstream_request_id="req_1",
    upstream="https://api.openai.com",
)


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store.database)


def open_row(store: Store, ledger: Ledger, *, at: int | None = None, token_id: str = TOKEN) -> Opened:
    request = opening()
    row = Opened(request.request_id, clock.now() if at is None else at, PROJECT, token_id, request.endpoint)
    with store.database.write():
        ledger.open(INSTANCE, [(request, row)])
    return row


def settle(store: Store, ledger: Ledger, *settlements: Settlement) -> None:
    with store.database.write():
        ledger.settle_each(settlements)


def test_open_row_has_what_is_known_at_the_admission(store: Store, ledger: Ledger) -> None:
    opened = open_row(store, ledger)
    (row,) = rows(store, "request")
    known = {name: value for name, value in row.items() if value is not None}
    assert known == {
        "id": opened.request_id,
        "instance_id": INSTANCE,
        "started_at": opened.started_at,
        "method": "POST",
        "project_id": PROJECT,
        "token_id": TOKEN,
        "path": "/v1/chat/completions",
        "endpoint": opened.endpoint,
    }


def test_row_names_the_websocket_that_it_belongs_to(store: Store, ledger: Ledger) -> None:
    first, further = opening("/v1/realtime"), opening("/v1/realtime")
    further = further._replace(session_id=first.request_id)
    opened = [(row, Opened(row.request_id, 1, PROJECT, TOKEN, row.endpoint)) for row in (first, further)]
    with store.database.write():
        ledger.open(INSTANCE, opened)
    assert {row["id"]: row["session_id"] for row in rows(store, "request")} == {
        first.request_id: None,
        further.request_id: first.request_id,
    }


def test_settled_row_has_its_outcome_and_its_price(store: Store, ledger: Ledger) -> None:
    opened = open_row(store, ledger)
    before = clock.now()
    settle(store, ledger, Settlement(opened, OUTCOME, METERED))
    (row,) = rows(store, "request")
    assert before <= row["settled_at"] <= clock.now()
    expected: dict[str, object] = {
        "status": 200,
        "streamed": 1,
        "duration_ms": 1500,
        "first_byte_ms": 400,
        "request_bytes": 120,
        "response_bytes": 4567,
        "upstream_request_id": "req_1",
        "usage_source": "observed",
        "model_asked": "gpt-4o-mini",
        "model": "gpt-4o-mini-2024-07-18",
        "input_tokens": 1000,
        "cached_input_tokens": 600,
        "output_tokens": 300,
        "reasoning_tokens": 128,
        "input_audio_tokens": None,
        "output_audio_tokens": None,
        "cost": 285_000_000,  # 400 x 0.15 + 600 x 0.075 + 300 x 0.6 USD for a million
    }
    assert {name: row[name] for name in expected} == expected
    assert json.loads(row["price"])["gpt-4o-mini"]["cache_read_mtok"] == "0.075"


def test_row_says_why_the_gateway_ended_its_request(store: Store, ledger: Ledger) -> None:
    cut, whole, other = (open_row(store, ledger) for _ in range(3))
    ended = OUTCOME._replace(code="token_inactive")
    settle(store, ledger, Settlement(cut, ended, METERED), Settlement(whole, OUTCOME, METERED))
    settle(store, ledger, Settlement(other, OUTCOME, METERED))
    found = {row["id"]: row for row in rows(store, "request")}
    assert [found[row.request_id]["code"] for row in (cut, whole, other)] == ["token_inactive", None, None]
    of_its_own = {"id", "code", "started_at", "settled_at"}
    assert len({str({**row, **dict.fromkeys(of_its_own)}) for row in found.values()}) == 1  # all else is alike


def test_process_believed_dead_corrects_why_a_request_was_ended(store: Store, ledger: Ledger) -> None:
    opened = open_row(store, ledger)
    settle(store, ledger, Settlement(opened))
    assert rows(store, "request")[0]["code"] is None
    settle(store, ledger, Settlement(opened, OUTCOME._replace(code="token_inactive"), METERED))
    assert rows(store, "request")[0]["code"] == "token_inactive"


@pytest.mark.parametrize(
    ("status", "metered", "cost"),
    [
        (200, Metered(model_asked="flux-pro"), 40_000_000_000),
        (200, Metered(model_asked="flux-pro", model="flux-pro-1.1"), 40_000_000_000),
        (500, Metered(model_asked="flux-pro"), None),
        (None, Metered(model_asked="flux-pro"), None),
        (200, Metered(), None),
        (200, Metered(model_asked="another"), None),
    ],
)
def test_a_price_by_the_request_needs_no_usage(
    store: Store, ledger: Ledger, status: int | None, metered: Metered, cost: int | None
) -> None:
    OwnPrices(store).set({"per_request": Decimal("0.04")}, model="flux-*")
    settle(store, ledger, Settlement(open_row(store, ledger), Outcome(status, duration_ms=1), metered))
    (row,) = rows(store, "request")
    assert (row["cost"], row["usage_source"]) == (cost, "unknown")


@pytest.mark.parametrize("table", rollups.TABLES)
def test_each_settled_row_is_added_to_the_sums_of_its_admission_time(
    store: Store, ledger: Ledger, table: Table
) -> None:
    width = rollups.TABLES[table]
    at = [7 * width, 8 * width - 1, 8 * width, 8 * width + 1]
    settlements = [Settlement(open_row(store, ledger, at=moment), OUTCOME, METERED) for moment in at]
    settle(store, ledger, *settlements[:3])
    settle(store, ledger, settlements[3])
    first, second = sorted(rows(store, table), key=lambda row: row["start"])
    assert (first["start"], second["start"]) == (7 * width, 8 * width)
    for row in (first, second):
        assert {name: row[name] for name in rollups.AMOUNTS} == {
            "requests": 2,
            "observed": 2,
            "estimated": 0,
            "unpriced": 0,
            "minimum": 0,
            "request_bytes": 240,
            "response_bytes": 9134,
            "input_tokens": 2000,
            "cached_input_tokens": 1200,
            "output_tokens": 600,
            "reasoning_tokens": 256,
            "input_audio_tokens": 0,
            "output_audio_tokens": 0,
            **dict.fromkeys(BESIDE_TOKENS, 0),
            "cost": 570_000_000,
            "told_cost": 0,
            "cost_where_told": 0,
            "budget_beyond": 0,
        }
        assert (row["project_id"], row["token_id"], row["model"]) == (PROJECT, TOKEN, "gpt-4o-mini-2024-07-18")


def test_unknown_usage_and_unknown_price_are_recorded_as_such(store: Store, ledger: Ledger) -> None:
    nothing, unpriced = open_row(store, ledger), open_row(store, ledger)
    used = Metered(Source.ESTIMATED, (Consumption("homegrown", {"output_tokens": 5}),), "homegrown", "homegrown")
    settle(store, ledger, Settlement(nothing), Settlement(unpriced, OUTCOME, used))
    first, second = rows(store, "request")
    assert {first[name] for name in (*COLUMNS, "cost", "price", "model", "status")} == {None}
    assert first["usage_source"] == "unknown"
    assert (second["usage_source"], second["output_tokens"], second["cost"]) == ("estimated", 5, None)
    totals = {row["model"]: (row["requests"], row["estimated"], row["unpriced"]) for row in rows(store, "daily_usage")}
    assert totals == {"": (1, 0, 0), "homegrown": (1, 1, 1)}


def test_models_of_a_request_add_up_and_one_unknown_price_makes_the_cost_unknown(store: Store, ledger: Ledger) -> None:
    known = (Consumption("gpt-4o-mini", {"input_tokens": 10, "output_tokens": 1}), METERED.consumptions[0])
    unknown = Consumption("homegrown", {"input_tokens": 1, "output_tokens": 1})
    both, one = open_row(store, ledger), open_row(store, ledger)
    settle(store, ledger, Settlement(both, OUTCOME, Metered(Source.OBSERVED, known)))
    settle(store, ledger, Settlement(one, OUTCOME, Metered(Source.OBSERVED, (*known, unknown))))
    first, second = rows(store, "request")
    assert (first["input_tokens"], first["output_tokens"]) == (1010, 301)
    assert first["cost"] == 285_000_000 + 10 * 150_000 + 600_000
    assert (second["input_tokens"], second["cost"], second["price"]) == (1011, None, None)


def test_price_of_a_row_names_each_of_its_models(store: Store, ledger: Ledger) -> None:
    units = {"input_tokens": 10, "output_tokens": 1}
    used = tuple(Consumption(model, units) for model in ("gpt-4o-mini", "gpt-4o", 'a "model" of its own \u00e9'))
    with store.database.write():
        Price.create(id="own", project_id=PROJECT, model=used[-1].model, rates='{"input": "7"}', updated_at=1)
    settle(store, ledger, Settlement(open_row(store, ledger), OUTCOME, Metered(Source.OBSERVED, used)))
    (row,) = rows(store, "request")
    assert {model: price["input_mtok"] for model, price in json.loads(row["price"]).items()} == {
        "gpt-4o-mini": "0.15",
        "gpt-4o": "2.5",
        used[-1].model: "7",
    }


def test_price_set_between_two_settlements_counts_for_the_second(store: Store, ledger: Ledger) -> None:
    opened = [open_row(store, ledger) for _ in range(2)]
    settle(store, ledger, Settlement(opened[0], OUTCOME, METERED))
    with store.database.write():
        Price.create(id="own", project_id=PROJECT, model="", rates='{"input": "7", "output": "0"}', updated_at=1)
    settle(store, ledger, Settlement(opened[1], OUTCOME, METERED))
    origins = [json.loads(row["price"])["gpt-4o-mini"]["from"] for row in rows(store, "request")]
    assert sorted(origin.split()[0] for origin in origins) == ["genai-prices", "own"]


def test_made_up_models_beyond_the_maximum_share_one_sum(store: Store, ledger: Ledger) -> None:
    number = MAX_MODELS + 20
    made_up = [METERED._replace(model=f"made-up-{index}") for index in range(number)]
    settle(store, ledger, *(Settlement(open_row(store, ledger, at=7), OUTCOME, metered) for metered in made_up))
    settle(store, ledger, Settlement(open_row(store, ledger, at=7), OUTCOME, made_up[0]))
    requests = {row["model"]: row["requests"] for row in rows(store, "daily_usage")}
    assert len(requests) == MAX_MODELS + 1
    assert (requests["made-up-0"], requests[OTHER_MODELS], sum(requests.values())) == (2, 20, number + 1)
    assert len({row["model"] for row in rows(store, "request")}) == number


def test_tokens_and_keys_are_masked_in_every_column(store: Store, ledger: Ledger) -> None:
    token, key = "6fd5ce84-0efa-4d8d-9dbd-8de4ab5e8b1b", "sk-proj-0123456789abcdef"
    request = Opening("1", "GET", f"/v1/models/{token}", "/v1/models/{id}", reserved=None)
    opened = Opened("1", 7, PROJECT, TOKEN, request.endpoint)
    with store.database.write():
        Price.create(id="1", project_id=PROJECT, model="", rates='{"input": "1"}', updated_at=1)
        ledger.open(INSTANCE, [(request, opened)])
    used = (Consumption(key, {"input_tokens": 1, "output_tokens": 1}),)
    settle(store, ledger, Settlement(opened, OUTCOME, Metered(Source.OBSERVED, used, token, key)))
    written = repr([rows(store, table) for table in ("request", *rollups.TABLES)])
    assert rows(store, "request")[0]["cost"] is not None
    assert token not in written
    assert key not in written


def test_row_is_settled_once(store: Store, ledger: Ledger) -> None:
    opened = open_row(store, ledger)
    settle(store, ledger, Settlement(opened, OUTCOME, METERED), Settlement(opened, OUTCOME, METERED))
    once = rows(store, "request"), rows(store, "hourly_usage")
    settle(store, ledger, Settlement(opened, OUTCOME, METERED), Settlement(opened))
    assert (rows(store, "request"), rows(store, "hourly_usage")) == once
    assert once[1][0]["requests"] == 1


def test_process_believed_dead_corrects_rows_that_others_settled(store: Store, ledger: Ledger) -> None:
    opened = open_row(store, ledger)
    settle(store, ledger, Settlement(opened))
    settle(store, ledger, Settlement(opened))
    settle(store, ledger, Settlement(opened, OUTCOME, METERED))
    settle(store, ledger, Settlement(opened, OUTCOME, METERED))
    (row,) = rows(store, "request")
    assert (row["usage_source"], row["input_tokens"]) == ("observed", 1000)
    for table in rollups.TABLES:
        counts = {row["model"]: (row["requests"], row["observed"]) for row in rows(store, table)}
        assert counts == {"gpt-4o-mini-2024-07-18": (1, 1)}


def test_settling_a_missing_row_adds_nothing(store: Store, ledger: Ledger) -> None:
    settle(store, ledger, Settlement(Opened("gone", 0, PROJECT, TOKEN, "/v1/models"), OUTCOME, METERED))
    assert rows(store, "request") == rows(store, "daily_usage") == []


def test_characters_that_cannot_be_stored_are_replaced(store: Store, ledger: Ledger) -> None:
    outcome = OUTCOME._replace(upstream_request_id="req\0_1")
    settle(store, ledger, Settlement(open_row(store, ledger), outcome, METERED._replace(model="gpt\ud800")))
    (row,) = rows(store, "request")
    assert (row["upstream_request_id"], row["model"], row["usage_source"]) == ("req\ufffd_1", "gpt\ufffd", "observed")


def test_usage_that_cannot_be_written_is_dropped_and_does_not_affect_other_rows(
    store: Store, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    metered = METERED._replace(consumptions=(Consumption("own", {"input_tokens": 2**70}),))
    opened = [open_row(store, ledger) for _ in range(3)]
    ends = [(OUTCOME, METERED), (OUTCOME, metered), (OUTCOME, METERED)]
    settle(store, ledger, *(Settlement(row, *end) for row, end in zip(opened, ends, strict=True)))
    assert [row["usage_source"] for row in rows(store, "request")] == ["observed", "unknown", "observed"]
    assert {row["status"] for row in rows(store, "request")} == {200}
    assert sum(row["requests"] for row in rows(store, "daily_usage")) == 3
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_outcome_that_cannot_be_written_does_not_affect_other_rows(
    store: Store, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    opened = [open_row(store, ledger) for _ in range(3)]
    outcomes = [OUTCOME, OUTCOME._replace(status=10**20), OUTCOME]
    settle(store, ledger, *(Settlement(row, one, METERED) for row, one in zip(opened, outcomes, strict=True)))
    assert sorted((row["status"] or 0, row["usage_source"]) for row in rows(store, "request")) == [
        (0, "unknown"),
        (200, "observed"),
        (200, "observed"),
    ]
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_sums_stop_at_their_upper_bound(store: Store, ledger: Ledger) -> None:
    with store.database.write():
        Price.create(id="1", project_id=PROJECT, model="", rates='{"input": "0.008"}', updated_at=1)
    used = Metered(Source.OBSERVED, (Consumption("own", {"input_tokens": usage.MAX_COUNT, "output_tokens": 0}),))
    first, second, third = (Settlement(open_row(store, ledger, at=7), OUTCOME, used) for _ in range(3))
    settle(store, ledger, first)
    assert rows(store, "daily_usage")[0]["cost"] == 8_000 * usage.MAX_COUNT
    with store.database.write():
        store.database.execute("UPDATE daily_usage SET cost = ?", (2**62 - 10,))
    settle(store, ledger, second, third)
    (day,), (hour,) = rows(store, "daily_usage"), rows(store, "hourly_usage")
    assert (day["cost"], day["input_tokens"]) == (2**62, 3 * usage.MAX_COUNT)
    assert hour["cost"] == 3 * 8_000 * usage.MAX_COUNT


def test_sums_equal_the_rows_added_up(store: Store, ledger: Ledger) -> None:
    """For random settlements in random batches."""
    chance = random.Random(5)  # noqa: S311
    settlements = [
        Settlement(
            open_row(store, ledger, at=chance.randrange(3 * clock.DAY), token_id=chance.choice("ab")),
            OUTCOME,
            chance.choice([METERED, Metered(), METERED._replace(source=Source.ESTIMATED, model="other")]),
        )
        for _ in range(120)
    ]
    while settlements:
        number = chance.randrange(1, 30)
        settle(store, ledger, *settlements[:number])
        del settlements[:number]
    for table, width in rollups.TABLES.items():
        expected: dict[tuple[object, ...], list[int]] = {}
        for row in rows(store, "request"):
            key = (row["started_at"] // width * width, row["token_id"], row["model"] or "")
            amounts = [1, row["input_tokens"] or 0, row["cost"] or 0, row["usage_source"] == "estimated"]
            expected[key] = [*map(sum, zip(expected.get(key, [0] * 4), amounts, strict=True))]
        found = {
            (row["start"], row["token_id"], row["model"]): [
                row[name] for name in ("requests", "input_tokens", "cost", "estimated")
            ]
            for row in rows(store, table)
        }
        assert found == expected


def test_settled_request_is_found_by_the_upstream_id_until_it_is_deleted(store: Store, ledger: Ledger) -> None:
    long_ago = clock.now() - 100 * clock.DAY
    first, second, third, old = (open_row(store, ledger, at=at) for at in (None, None, None, long_ago))
    settle(store, ledger, *(Settlement(row, OUTCOME, METERED) for row in (first, second, old)), Settlement(third))
    settle(store, ledger, Settlement(first, OUTCOME, METERED))  # again, as after an outcome that was not known
    assert sorted(row["request_id"] for row in rows(store, "upstream_id")) == sorted(
        row.request_id for row in (first, second, old)
    )
    requests = RequestList(store)
    assert requests.get("req_1").id == max(first.request_id, second.request_id, old.request_id)
    retention.clean(store.database, 30, threading.Event())
    assert {row["request_id"] for row in rows(store, "upstream_id")} == {first.request_id, second.request_id}


def test_too_long_upstream_id_is_kept_in_the_row_but_not_indexed(store: Store, ledger: Ledger) -> None:
    settle(store, ledger, Settlement(open_row(store, ledger), OUTCOME._replace(upstream_request_id="x" * 129), METERED))
    (row,) = rows(store, "request")
    assert (row["upstream_request_id"], row["usage_source"], row["status"]) == ("x" * 129, "observed", 200)
    assert rows(store, "upstream_id") == []
