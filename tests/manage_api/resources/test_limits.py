"""Limits of tokens and projects: how they are sent, refused and shown."""

import asyncio
import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.stores.stores import opening, rows

from store.admission.admission import Admission
from store.clock import DAY, from_rfc3339
from store.store import Store

MINUTE = {"requests": 60, "per": "minute"}
LONG = {"requests": 5000, "per": "day"}
MONTH = {"usd": "2.50", "per": "month"}


def standing(kind: str, per: str | None, limit: int, used: int = 0) -> dict[str, Any]:
    counts = {"limit": limit, "used": used, "reserved": 0, "remaining": limit - used}
    return {"kind": kind, "per": per, **counts, "resets_at": None}


def test_limits_are_set_and_shown(client: FlaskClient, folder: str, good: dict[str, Any]) -> None:
    limits = {"rate_limits": [MINUTE, LONG], "max_parallel_requests": 20}
    answer = client.post(f"/manage/{folder}", json={**good, **limits})
    made = answer.get_json()
    assert answer.status_code == 201
    assert {name: made[name] for name in limits} == limits
    assert made["limits"] == [
        standing("requests", "day", 5000),
        standing("requests", "minute", 60),
        standing("parallel", None, 20),
    ]
    shown = client.get(f"/manage/{folder}/{made['id']}").get_json()
    listed = next(each for each in client.get(f"/manage/{folder}").get_json() if each["id"] == made["id"])
    assert {name: shown[name] for name in listed} == listed == made


@pytest.mark.parametrize("none", [None, []])
def test_limits_are_changed_and_removed(client: FlaskClient, path: str, none: object) -> None:
    assert client.patch(path, json={"rate_limits": [MINUTE]}).get_json()["max_parallel_requests"] is None
    both = client.patch(path, json={"max_parallel_requests": 1}).get_json()
    assert both["limits"] == [standing("requests", "minute", 60), standing("parallel", None, 1)]
    removed = client.patch(path, json={"rate_limits": none}).get_json()
    assert (removed["rate_limits"], removed["limits"]) == (none, [standing("parallel", None, 1)])
    assert client.patch(path, json={"max_parallel_requests": None}).get_json()["limits"] == []


def test_what_was_used_is_shown(client: FlaskClient, store: Store, token: dict[str, str]) -> None:
    path = f"/manage/tokens/{token['id']}"
    client.patch(path, json={"rate_limits": [LONG], "max_parallel_requests": 2})
    client.patch(f"/manage/projects/{token['project_id']}", json={"rate_limits": [MINUTE]})
    admission = Admission(store)

    async def admit() -> None:
        await admission.admit(token["token"], opening())
        day, parallel = client.get(path).get_json()["limits"]
        reset = from_rfc3339(day.pop("resets_at"))
        assert day == {"kind": "requests", "per": "day", "limit": 5000, "used": 1, "reserved": 0, "remaining": 4999}
        assert DAY < reset - store.database.now() + DAY // 60 <= DAY + DAY // 60 * 2
        assert parallel == standing("parallel", None, 2, used=1)
        minute = client.get("/manage/projects").get_json()[0]["limits"][0]
        assert (minute["used"], minute["remaining"]) == (1, 59)

    asyncio.run(admit())
    admission.close()
    assert client.get(path).get_json()["limits"][1] == standing("parallel", None, 2)


MOST = 10**12
WINDOW = "The field 'rate_limits[0]'"
REQUESTS = "The field 'rate_limits[0].requests'"
TOKENS = "The field 'rate_limits[0].tokens'"
ONE_OF_BOTH = f"{WINDOW} must have either 'requests' or 'tokens'."
USD = (
    "The field 'budgets[0].usd' must be a text such as \"100.00\", above 0 and at most 1000000, "
    "with at most 12 decimals."
)
PARALLEL = "The field 'max_parallel_requests'"
BAD: list[tuple[str, str]] = [
    ('{"rate_limits": 1}', "The field 'rate_limits' must be an array or null, not an integer."),
    (
        '{"rate_limits": {"requests": 1, "per": "day"}}',
        "The field 'rate_limits' must be an array or null, not an object.",
    ),
    ('{"rate_limits": [null]}', f"{WINDOW} must be an object, not null."),
    ('{"rate_limits": [{}]}', f"{WINDOW} lacks the required field 'per'. {ONE_OF_BOTH}"),
    ('{"rate_limits": [{"requests": 1}]}', f"{WINDOW} lacks the required field 'per'."),
    ('{"rate_limits": [{"per": "day"}]}', ONE_OF_BOTH),
    *(
        (f'{{"rate_limits": [{{"requests": {number}, "per": "day"}}]}}', f"{REQUESTS} must be {words}.")
        for number, words in {
            "0": "at least 1",
            "-5": "at least 1",
            "1.5": "an integer, not a decimal number",
            "1.0": "an integer, not a decimal number",
            "1e3": "an integer, not a decimal number",
            "true": "an integer, not a boolean",
            '"60"': "an integer, not a string",
            "null": "an integer, not null",
            str(MOST + 1): f"at most {MOST}",
            "9" * 4000: f"at most {MOST}",
        }.items()
    ),
    *(
        (
            f'{{"rate_limits": [{{"requests": 1, "per": "day"}}, {{"requests": 1, "per": {period}}}]}}',
            f"The field 'rate_limits[1].per' must be {words}.",
        )
        for period, words in {
            '"week"': "one of second, minute, hour, day",
            '"Minute"': "one of second, minute, hour, day",
            '""': "one of second, minute, hour, day",
            "60": "a string, not an integer",
            "null": "a string, not null",
        }.items()
    ),
    (
        '{"rate_limits": [{"requests": 1, "per": "day", "burst": 2}]}',
        f"{WINDOW} has an unknown field: 'burst'; known fields: requests, tokens, per.",
    ),
    (
        '{"rate_limits": [{"request": 1, "per": "day"}]}',
        f"{WINDOW} has an unknown field: 'request' (did you mean 'requests'?). {ONE_OF_BOTH}",
    ),
    (
        '{"rate_limits": [{"requests": 1, "tokens": 100000, "per": "day"}]}',
        ONE_OF_BOTH,
    ),
    *(
        (f'{{"rate_limits": [{{"tokens": {number}, "per": "day"}}]}}', f"{TOKENS} must be {words}.")
        for number, words in {
            "0": "at least 1",
            "1.5": "an integer, not a decimal number",
            "null": "an integer, not null",
            str(MOST + 1): f"at most {MOST}",
        }.items()
    ),
    *(
        (f'{{"budgets": [{{"usd": {usd}, "per": "month"}}]}}', message)
        for usd, message in {
            '"0"': USD,
            '"0.000000000000"': USD,
            '"1000000.000000000001"': USD,
            '"1000001"': USD,
            '"-1"': USD,
            '"+1"': USD,
            '"1e3"': USD,
            '"1."': USD,
            '".5"': USD,
            '" 1"': USD,
            '"1\\n"': USD,
            '"\u0661"': USD,
            '"1_000"': USD,
            '"NaN"': USD,
            '"Infinity"': USD,
            '"0.0000000000001"': USD,
            '""': "The field 'budgets[0].usd' must not be empty.",
        }.items()
    ),
    (
        '{"budgets": [{"usd": "1", "per": "year"}]}',
        "The field 'budgets[0].per' must be one of day, week, month, total.",
    ),
    (
        json.dumps({"budgets": [{"usd": "1", "per": "day"}, {"usd": "2", "per": "day"}]}),
        "The field 'budgets[1]' is for the same period as 'budgets[0]': leave one out.",
    ),
    (
        json.dumps({"budgets": [{"usd": "1", "per": "day"}] * 5}),
        "The field 'budgets' must have at most 4 values.",
    ),
    (
        json.dumps({"rate_limits": [LONG, MINUTE, {"requests": 2, "per": "day"}]}),
        "The field 'rate_limits[2]' is for the same window as 'rate_limits[0]': leave one out.",
    ),
    (
        json.dumps({"rate_limits": [MINUTE] * 9}),
        "The field 'rate_limits' must have at most 8 values.",
    ),
    *(
        (f'{{"max_parallel_requests": {number}}}', f"{PARALLEL} must be {words}.")
        for number, words in {
            "0": "at least 1",
            "-1": "at least 1",
            "1.0": "an integer or null, not a decimal number",
            "false": "an integer or null, not a boolean",
            '"2"': "an integer or null, not a string",
            "[]": "an integer or null, not an array",
            str(MOST + 1): f"at most {MOST}",
            str(2**64): f"at most {MOST}",
        }.items()
    ),
    ('{"rate_limit": []}', "The body has an unknown field: 'rate_limit' (did you mean 'rate_limits'?)."),
]


def merged(good: dict[str, Any], body: str) -> str:
    """Return a body that creates an owner, with the fields of another, written as they are there."""
    return f"{json.dumps(good)[:-1]}, {body[1:]}"


@pytest.mark.parametrize(("body", "message"), BAD, ids=lambda text: text[:60])
def test_bad_limits_are_refused_and_change_nothing(
    client: FlaskClient, folder: str, good: dict[str, Any], path: str, body: str, message: str
) -> None:
    client.patch(path, json={"rate_limits": [LONG], "max_parallel_requests": 2})
    before = client.get(f"/manage/{folder}").json
    for answer in (
        client.patch(path, data=body, content_type="application/json"),
        client.post(f"/manage/{folder}", data=merged(good, body), content_type="application/json"),
    ):
        assert (answer.status_code, answer.get_json()["message"]) == (400, message)
    assert client.get(f"/manage/{folder}").json == before


def test_budgets_are_kept_as_they_were_written_and_shown_as_decimals(client: FlaskClient, path: str) -> None:
    budgets = [{"usd": "1000000", "per": "day"}, {"usd": "0.000000000001", "per": "total"}, MONTH]
    changed = client.patch(path, json={"budgets": budgets, "rate_limits": [{"tokens": 9, "per": "hour"}]}).get_json()
    assert changed["budgets"] == budgets
    assert [
        (each["kind"], each["per"], each["limit"], each["used"], each["reserved"]) for each in changed["limits"]
    ] == [
        ("usd", "total", "0.000000000001", "0", "0"),
        ("usd", "month", "2.5", "0", "0"),
        ("usd", "day", "1000000", "0", "0"),
        ("tokens", "hour", 9, 0, 0),
    ]
    total, month, day, hour = changed["limits"]
    assert (total["resets_at"], hour["resets_at"]) == (None, None)
    assert month["resets_at"].endswith("-01T00:00:00.000000Z")
    assert from_rfc3339(day["resets_at"]) % DAY == 0
    assert client.patch(path, json={"budgets": []}).get_json()["budgets"] == []


def test_the_highest_limits_are_accepted(client: FlaskClient, path: str) -> None:
    limits = {"rate_limits": [{"requests": MOST, "per": "second"}], "max_parallel_requests": MOST}
    assert [each["remaining"] for each in client.patch(path, json=limits).get_json()["limits"]] == [MOST, MOST]


NUMBERS = st.one_of(
    st.integers(-2, 3), st.integers(), st.sampled_from([MOST, MOST + 1]), st.floats(allow_nan=False), st.booleans()
)
WINDOWS = st.fixed_dictionaries(
    {},
    optional={
        "requests": NUMBERS,
        "per": st.sampled_from(["second", "minute", "hour", "day", "week", 1, None]),
        "tokens": NUMBERS,
        "more": st.none(),
    },
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "rate_limits": st.none() | st.lists(WINDOWS | st.just(MINUTE), max_size=9) | st.text(max_size=2),
        "max_parallel_requests": st.none() | NUMBERS | st.text(max_size=2),
    },
)


def is_number(value: object) -> bool:
    return type(value) is int and 1 <= value <= MOST


def is_good(body: dict[str, Any]) -> bool:
    """Tell by other words than the code's whether limits are good."""
    windows, parallel = body.get("rate_limits"), body.get("max_parallel_requests")
    if windows is not None:
        kinds = [{"requests", "per"}, {"tokens", "per"}]
        if not isinstance(windows, list) or any(window.keys() not in kinds for window in windows):
            return False
        if not {window["per"] for window in windows} <= {"second", "minute", "hour", "day"}:
            return False
        if len({("tokens" in window, window["per"]) for window in windows}) < len(windows):
            return False
        if not all(is_number(window.get("requests", window.get("tokens"))) for window in windows):
            return False
    return parallel is None or is_number(parallel)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=BODIES)
@example(body={"rate_limits": [MINUTE], "max_parallel_requests": 1})
def test_any_limits_are_stored_as_they_are_or_refused(
    client: FlaskClient, store: Store, path: str, body: dict[str, Any]
) -> None:
    client.patch(path, json={"rate_limits": [LONG], "max_parallel_requests": 2})
    before = client.get(path).get_json()
    answer = client.patch(path, json=body)
    after = client.get(path).get_json()
    if is_good(body):
        assert answer.status_code == 200
        assert {name: after[name] for name in body} == body
        windows = [(each, each["per"]) for each in after["rate_limits"] or ()]
        kinds = {f"{unit}/{per}": each[unit] for each, per in windows for unit in each if unit != "per"}
        parallel = after["max_parallel_requests"]
        balances = {row["id"].partition("/")[2]: row["maximum"] for row in rows(store, "balance")}
        assert balances == (kinds | {"parallel": parallel} if parallel else kinds)
    else:
        assert (answer.status_code, after) == (400, before)


def test_an_object_that_was_read_can_be_sent_back(client: FlaskClient, path: str) -> None:
    client.patch(path, json={"rate_limits": [MINUTE, LONG], "max_parallel_requests": 2, "budgets": [MONTH]})
    shown = client.get(path).get_json()
    assert client.patch(path, json=shown).status_code == 200
    changed = client.patch(path, json={**shown, "rate_limits": [LONG]})
    assert [each["per"] for each in changed.get_json()["limits"]] == ["month", "day", None]


def test_the_standing_of_a_limit_cannot_be_changed(client: FlaskClient, path: str) -> None:
    client.patch(path, json={"rate_limits": [MINUTE]})
    shown = client.get(path).get_json()
    (standing,) = shown["limits"]
    for other in ([], None, [{**standing, "limit": 100}], [{**standing, "used": 1}], [standing, standing]):
        answer = client.patch(path, json={"rate_limits": [LONG], "limits": other})
        assert answer.status_code == 400
        assert answer.get_json()["message"].startswith("The field 'limits' is read-only")
    assert client.get(path).json == shown


def test_limits_are_not_set_by_what_is_read_only(client: FlaskClient, folder: str, good: dict[str, Any]) -> None:
    answer = client.post(f"/manage/{folder}", json={**good, "limits": []})
    assert answer.status_code == 400
    assert "'limits'" in answer.get_json()["message"]
