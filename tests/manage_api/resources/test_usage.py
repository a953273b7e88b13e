import csv
import io
from typing import Any

import pytest
from flask.testing import FlaskClient
from support.stores.ledger import (
    NOON,
    PROJECT_ID,
    TOKEN_ID,
    forget,
    open_request,
    refuse_request,
    settle_request,
)

from store.clock import DAY, HOUR, MINUTE, to_rfc3339
from store.ledger.usage import Source
from store.store import Store

NO_ZONES = ("Europe/Atlantis", "europe/berlin", "localtime", "..%2FUTC", "/etc/passwd", "%00", "Europe", "x" * 10_000)
UNKNOWN = "3f2b8a9e-6c1d-4e57-9a40-0d9b7c5f1e23"
COUNTS = ["requests", "refused", "in_flight", "observed", "estimated", "unknown", "unpriced", "minimum"]
TOKENS = ["input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens"]
SPOKEN = ["input_audio_tokens", "output_audio_tokens"]
BESIDE_TOKENS = [
    *("web_searches", "file_searches", "code_containers", "tool_calls"),
    *("images", "audio_seconds", "video_seconds"),
]
NOTHING: dict[str, object] = {
    **dict.fromkeys([*COUNTS, *TOKENS, *SPOKEN, *BESIDE_TOKENS, "request_bytes", "response_bytes"], 0),
    "cost_usd": None,
    "told_cost_usd": "0",
    "cost_where_told_usd": "0",
}


def report(client: FlaskClient, query: str = "") -> Any:
    answer = client.get(f"/manage/usage{query}")
    assert answer.status_code == 200, answer.text
    return answer.json


@pytest.fixture
def used(store: Store, token: dict[str, str]) -> dict[str, str]:
    """A token with a request of known cost, an unknown one and one that is running; and one of another token."""
    mine = {"project_id": token["project_id"], "token_id": token["id"]}
    known = {"usage_source": Source.OBSERVED, "model": "gpt-4o", "input_tokens": 10, "output_tokens": 3}
    settle_request(store, **mine, **known, cost=43_500_000)
    settle_request(store, **mine, started_at=NOON + DAY)
    open_request(store, **mine)
    settle_request(store, endpoint="/v1/embeddings", usage_source=Source.ESTIMATED, model="other", input_tokens=5)
    return token


SUMS = {**NOTHING, "requests": 3, "in_flight": 1, "observed": 1, "unknown": 1}
SUMS |= {"input_tokens": 10, "output_tokens": 3, "cost_usd": "0.0000435"}


def test_a_ledger_without_requests_has_zero_totals(client: FlaskClient) -> None:
    utc = {"from": None, "to": None, "timezone": "UTC"}
    assert report(client) == {**utc, "group_by": [], "totals": NOTHING, "groups": [NOTHING]}
    assert report(client, "?groupBy=model") == {
        **utc,
        "group_by": ["model"],
        "totals": NOTHING,
        "groups": [],
    }


def test_groups_have_their_names_and_sums(client: FlaskClient, used: dict[str, str]) -> None:
    body = report(client, "?groupBy=token,model,day")
    assert body["group_by"] == ["token", "model", "day"]
    names = ["project_id", "project_name", "token_id", "token_name", "model", "day"]
    assert list(body["groups"][0]) == [*names, *NOTHING]
    assert body["groups"][0] == {
        **NOTHING,
        "project_id": used["project_id"],
        "project_name": "One",
        "token_id": used["id"],
        "token_name": None,
        "model": "gpt-4o",
        "day": "2024-10-04",
        "requests": 1,
        "observed": 1,
        "input_tokens": 10,
        "output_tokens": 3,
        "cost_usd": "0.0000435",
    }
    assert [(group["model"], group["project_name"], group["day"]) for group in body["groups"]] == [
        ("gpt-4o", "One", "2024-10-04"),
        ("other", None, "2024-10-04"),
        (None, "One", "2024-10-04"),
        (None, "One", "2024-10-05"),
    ]
    assert body["totals"]["requests"] == 4


def test_unknown_tokens_are_null_and_not_0(client: FlaskClient, store: Store) -> None:
    settle_request(store)
    open_request(store)
    totals = report(client)["totals"]
    assert (totals["requests"], totals["unknown"], totals["in_flight"]) == (2, 1, 1)
    assert {totals[name] for name in [*TOKENS, *SPOKEN, "cost_usd"]} == {None}


def test_refused_requests_are_counted_apart(client: FlaskClient, store: Store, used: dict[str, str]) -> None:
    mine = {"project_id": used["project_id"], "token_id": used["id"]}
    refuse_request(store, **mine, repeats=7)
    refuse_request(store, **mine, repeats=2, endpoint="/v1/embeddings", started_at=NOON + 40 * DAY)
    of_the_token = f"tokenId={used['id']}"
    assert report(client, f"?{of_the_token}")["totals"] == {**SUMS, "refused": 9}
    assert report(client, f"?{of_the_token}&to=2024-10-05")["totals"]["refused"] == 7
    assert report(client, f"?{of_the_token}&model=gpt-4o")["totals"]["refused"] == 0
    groups = report(client, f"?{of_the_token}&groupBy=endpoint,day")["groups"]
    assert [(group["endpoint"], group["day"], group["requests"], group["refused"]) for group in groups] == [
        ("/v1/chat/completions", "2024-10-04", 2, 7),
        ("/v1/chat/completions", "2024-10-05", 1, 0),
        ("/v1/embeddings", "2024-11-13", 0, 2),
    ]
    hours = report(client, f"?{of_the_token}&groupBy=hour")["groups"]
    assert [group["refused"] for group in hours] == [7, 0, 2]
    for shown in (f"/manage/tokens/{used['id']}", f"/manage/projects/{used['project_id']}"):
        assert client.get(shown).json["usage"]["refused"] == 9  # type: ignore[index]


def test_groups_by_hour(client: FlaskClient, used: dict[str, str]) -> None:
    hours = [group["hour"] for group in report(client, f"?groupBy=hour&tokenId={used['id']}")["groups"]]
    assert hours == ["2024-10-04T12:00:00Z", "2024-10-05T12:00:00Z"]


@pytest.mark.parametrize("name", ["id", "token"])
def test_a_token_is_named_by_its_id_or_its_value(client: FlaskClient, used: dict[str, str], name: str) -> None:
    for text in (used[name], used[name].upper()):
        assert report(client, f"?tokenId={text}")["totals"] == SUMS


@pytest.mark.parametrize(
    ("query", "requests"),
    [
        ("projectId=" + PROJECT_ID, 1),
        ("tokenId=" + TOKEN_ID, 1),
        ("tokenId=" + UNKNOWN, 0),
        ("model=gpt-4o", 1),
        ("endpoint=/v1/embeddings", 1),
        ("from=2024-10-05", 1),
        ("to=2024-10-05", 3),
        ("from=2024-10-04T12:00:00Z&to=2024-10-04T12:00:00.000001Z", 3),
        ("from=2024-10-04T14:00:00%2B02:00&to=2024-10-04T10:00:01-02:00", 3),
        ("from=2024-10-06&to=2024-10-01", 0),
        ("from=2024-10-04&model=gpt-4o&endpoint=/v1/chat/completions", 1),
    ],
)
@pytest.mark.usefixtures("used")
def test_reports_are_filtered(client: FlaskClient, query: str, requests: int) -> None:
    assert report(client, f"?{query}")["totals"]["requests"] == requests


def test_the_report_shows_the_time_that_was_summed(client: FlaskClient, store: Store) -> None:
    settle_request(store)
    asked = "?from=2024-10-04T12:00:00%2B00:00&to=2024-10-05"
    body = report(client, asked)
    assert (body["from"], body["to"]) == ("2024-10-04T12:00:00.000000Z", "2024-10-05T00:00:00.000000Z")
    forget(store, NOON + HOUR)
    assert report(client, asked)["from"] == "2024-10-04T00:00:00.000000Z"


def test_days_are_those_of_a_time_zone(client: FlaskClient, store: Store) -> None:
    for hour in (9, 10, 33, 34):  # 21, 22, 45 and 46 o'clock in UTC
        settle_request(store, started_at=NOON + hour * HOUR)
    asked = "?groupBy=month,week,day,hour&timezone=Europe/Berlin"
    body = report(client, asked)
    assert (body["timezone"], body["from"]) == ("Europe/Berlin", None)
    assert [(group["month"], group["week"], group["day"], group["hour"]) for group in body["groups"]] == [
        ("2024-10-01", "2024-09-30", "2024-10-04", "2024-10-04T21:00:00Z"),
        ("2024-10-01", "2024-09-30", "2024-10-05", "2024-10-04T22:00:00Z"),
        ("2024-10-01", "2024-09-30", "2024-10-05", "2024-10-05T21:00:00Z"),
        ("2024-10-01", "2024-09-30", "2024-10-06", "2024-10-05T22:00:00Z"),
    ]
    lines = client.get("/manage/usage?groupBy=day&format=csv&timezone=Asia/Tokyo").text.splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [["2024-10-05", "2"], ["2024-10-06", "2"]]


@pytest.mark.parametrize("group_by", ["", "&groupBy=day", "&groupBy=model"])
def test_dates_are_those_of_the_time_zone(client: FlaskClient, store: Store, group_by: str) -> None:
    for hour in (9, 10, 33, 34):
        settle_request(store, started_at=NOON + hour * HOUR)
    body = report(client, f"?from=2024-10-05&to=2024-10-06&timezone=Europe/Berlin{group_by}")
    assert (body["from"], body["to"]) == ("2024-10-04T22:00:00.000000Z", "2024-10-05T22:00:00.000000Z")
    assert body["totals"]["requests"] == 2
    exact = report(client, f"?from=2024-10-05T00:00:00Z&to=2024-10-06&timezone=Europe/Berlin{group_by}")
    assert exact["from"] == "2024-10-05T00:00:00.000000Z"


def test_days_that_cannot_be_told_apart_are_a_clear_400(client: FlaskClient, store: Store) -> None:
    settle_request(store)
    forget(store, NOON + DAY)
    answer = client.get("/manage/usage?groupBy=day&timezone=Europe/Berlin")
    assert answer.status_code == 400
    assert answer.get_json()["message"] == (
        "Before 2024-10-06 only the sums of days (UTC) are kept, which do not tell the days of Europe/Berlin apart: "
        "ask from 2024-10-06 on, or without a time zone."
    )
    assert report(client, "?groupBy=day&timezone=Europe/Berlin&from=2024-10-06")["groups"] == []
    assert report(client, "?groupBy=model&timezone=Europe/Berlin")["totals"]["requests"] == 1


def test_csv_for_excel_has_a_byte_order_mark(client: FlaskClient, store: Store, project_id: str) -> None:
    client.patch(f"/manage/projects/{project_id}", json={"name": "K\u00fcche"})
    settle_request(store, project_id=project_id)
    plain, excel = (client.get(f"/manage/usage?groupBy=project&format={form}") for form in ("csv", "csv-excel"))
    assert excel.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert excel.data == b"\xef\xbb\xbf" + plain.data
    assert "K\u00fcche".encode() in plain.data


@pytest.mark.usefixtures("used")
def test_a_report_is_written_as_csv(client: FlaskClient) -> None:
    answer = client.get("/manage/usage?groupBy=project,model&format=csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    header, first, *others = csv.reader(io.StringIO(answer.text, newline=""))
    assert header == ["project_id", "project_name", "model", *NOTHING]
    assert dict(zip(header, first, strict=True))["cost_usd"] == "0.0000435"
    assert len(others) == 2
    assert dict(zip(header, others[-1], strict=True))["cost_usd"] == ""


def test_costs_that_the_upstream_told_are_shown_beside_ours(client: FlaskClient, store: Store) -> None:
    settle_request(store, usage_source=Source.OBSERVED, cost=20_000_000, told_cost=30_000_000)
    settle_request(store, usage_source=Source.OBSERVED, cost=5_000_000, cost_is_minimum=True, web_searches=3)
    (group,) = report(client, "?groupBy=project")["groups"]
    for sums in (group, report(client)["totals"], report(client, f"?to={to_rfc3339(NOON + MINUTE)}")["totals"]):
        assert (sums["cost_usd"], sums["minimum"], sums["web_searches"]) == ("0.000025", 1, 3)
        assert (sums["told_cost_usd"], sums["cost_where_told_usd"]) == ("0.00003", "0.00002")


def test_tokens_are_named(client: FlaskClient, used: dict[str, str]) -> None:
    client.patch(f"/manage/tokens/{used['id']}", json={"name": "=Ann"})
    for _ in range(2):
        groups = report(client, "?groupBy=token")["groups"]
        assert [(group["token_id"], group["token_name"]) for group in groups] == [
            (used["id"], "=Ann"),
            (TOKEN_ID, None),
        ]
        lines = csv.reader(io.StringIO(client.get("/manage/usage?groupBy=token&format=csv").text, newline=""))
        header, *rows = (line[2:4] for line in lines)
        assert (header, rows) == (["token_id", "token_name"], [[used["id"], "'=Ann"], [TOKEN_ID, ""]])
        client.delete(f"/manage/projects/{used['project_id']}")


def test_csv_without_groups_has_its_header(client: FlaskClient) -> None:
    assert client.get("/manage/usage?groupBy=day&format=csv").text == f"day,{','.join(NOTHING)}\r\n"


def test_a_name_that_is_a_formula_gets_an_apostrophe_in_csv(client: FlaskClient, store: Store, project_id: str) -> None:
    client.patch(f"/manage/projects/{project_id}", json={"name": "=1+1"})
    settle_request(store, project_id=project_id)
    assert ",'=1+1," in client.get("/manage/usage?groupBy=project&format=csv").text
    assert report(client, "?groupBy=project")["groups"][0]["project_name"] == "=1+1"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("groupBy=", "A value of the query parameter 'groupBy' must be one of project, token"),
        ("groupBy=colour", "A value of the query parameter 'groupBy' must be one of project, token"),
        ("groupBy=model,model", "The query parameter 'groupBy' must not have a value twice."),
        ("groupBy=model,", "A value of the query parameter 'groupBy' must be one of project, token"),
        ("groupBy=model&groupBy=day", "more than once"),
        (
            "from=yesterday",
            "must be a time of RFC 3339, such as 2026-11-25T00:00:00Z, or be a date, such as 2026-11-25.",
        ),
        ("from=2024-02-30", "must be a time of RFC 3339"),
        ("to=", "'to' must not be empty."),
        ("to=2024-10-04T00:00:00+01:00", "A + is written as %2B in a query."),
        ("from=2024-10-04&from=2024-10-05", "more than once"),
        ("projectId=x", "'projectId' must be a UUID"),
        ("tokenId=x", "'tokenId' must be a UUID"),
        ("model=", "'model' must not be empty."),
        ("model=%00", "'model' must not have a NUL in it."),
        ("model=" + "x" * 256, "'model' must have at most 255 characters."),
        ("endpoint=a&endpoint=b", "more than once"),
        *(
            (f"timezone={name}", "'timezone' must be the IANA name of a time zone, such as Europe/Berlin.")
            for name in NO_ZONES
        ),
        ("timezone=", "'timezone' must not be empty."),
        ("timezone=UTC&timezone=UTC", "more than once"),
        ("format=jsonl", "must be one of json, csv, csv-excel."),
    ],
)
def test_a_bad_query_is_refused(client: FlaskClient, query: str, message: str) -> None:
    answer = client.get(f"/manage/usage?{query}")
    assert answer.status_code == 400
    assert answer.json is not None
    assert message in answer.json["message"]


def test_the_ledger_needs_the_management_token(anyone: FlaskClient) -> None:
    for path in ("/manage/usage", "/manage/requests", "/manage/prices"):
        assert anyone.get(path).status_code == 401


def test_a_token_and_a_project_are_shown_with_their_usage(client: FlaskClient, used: dict[str, str]) -> None:
    for path in (f"/manage/tokens/{used['id']}", f"/manage/projects/{used['project_id']}"):
        assert client.get(path).json["usage"] == SUMS  # type: ignore[index]
        assert "usage" not in client.patch(path, json={}).json  # type: ignore[operator]


def test_head_works_where_get_does(client: FlaskClient) -> None:
    for path in ("/manage/usage?groupBy=model", "/manage/usage?format=csv", "/manage/requests", "/manage/prices"):
        assert client.head(path).status_code == 200
    assert client.head("/manage/usage?groupBy=colour").status_code == 400
