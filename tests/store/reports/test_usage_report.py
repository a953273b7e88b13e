"""Reports, beside the same sums made row by row in Python."""

import random
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from support.stores.ledger import (
    NOON,
    PROJECT_ID,
    TOKEN_ID,
    forget,
    open_request,
    refuse_request,
    settle_request,
    settle_requests,
    sums_of,
)
from support.stores.stores import API_KEY, make_settings, make_token, opened, set_columns

from store.clock import DAY, HOUR, NEVER, SECOND, from_rfc3339, to_date
from store.database.models import Request
from store.errors import InvalidRequest
from store.ledger.usage import COST_UNIT, Source
from store.management.projects import Projects
from store.reports import usage_report
from store.reports.usage_query import Dimension, UsageFilter
from store.reports.usage_report import UsageGroup, UsageReport, UsageReports
from store.reports.usage_totals import UsageSums
from store.store import Store

MIDNIGHT = NOON - 12 * HOUR
DAYS = 4
BYTES = ("request_bytes", "response_bytes")
GROUPINGS = [
    [],
    ["project"],
    ["token"],
    ["project", "token"],
    ["model"],
    ["endpoint"],
    ["day"],
    ["hour"],
    ["day", "hour"],
    ["week"],
    ["month"],
    ["week", "model"],
    ["token", "month", "week"],
    ["month", "week", "day", "endpoint"],
    ["day", "model"],
    ["hour", "token", "model", "endpoint"],
    ["project", "token", "model", "endpoint", "day"],
]

type Rows = list[dict[str, Any]]


def somewhere(generator: random.Random) -> int:
    """A time: often just at, before or after a whole hour or day."""
    whole = MIDNIGHT + generator.choice(
        [generator.randrange(DAYS + 1) * DAY, generator.randrange(DAYS * 24 + 1) * HOUR]
    )
    return whole + generator.choice([0, 0, -1, 1, generator.randrange(-HOUR, HOUR)])


def random_row(generator: random.Random) -> dict[str, Any]:
    token = generator.randrange(1, 5)
    columns: dict[str, Any] = {
        "started_at": somewhere(generator),
        "token_id": str(uuid.UUID(int=token)),
        "project_id": str(uuid.UUID(int=token % 2 + 1)),
        "endpoint": generator.choice(["/v1/chat/completions", "/v1/embeddings"]),
    }
    if generator.random() < 0.1:
        return columns
    source = generator.choice(list(Source))
    columns |= {"usage_source": source, "model": generator.choice([None, "gpt-4o", "gpt-4o-mini"]), "settled_at": 1}
    columns |= {
        name: generator.choice([None, 0, generator.randrange(10**6)]) for name in ("request_bytes", "response_bytes")
    }
    if source is not Source.UNKNOWN:
        columns |= {"input_tokens": generator.randrange(1000), "reasoning_tokens": generator.choice([None, 7])}
        columns |= {"cost": generator.choice([None, 0, generator.randrange(10**13)])}
    return columns


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Rows]]:
    """A store with random requests of some days; a tenth of them are running."""
    generator = random.Random(7)  # noqa: S311 - a test's
    rows = [random_row(generator) for _ in range(400)]
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgresql_server").make_database()
    settings = make_settings(tmp_path_factory.mktemp("ledger"), database_url=url)
    with opened(settings) as store, store.database.write():
        settle_requests(store, [row for row in rows if "settled_at" in row])
        for row in rows:
            if "settled_at" not in row:
                open_request(store, **row)
    with opened(settings) as store:
        yield store, rows


def key_of(row: Mapping[str, Any], by: list[str], zone: tzinfo) -> tuple[object, ...]:
    """The group of a row: its fields in the order of UsageGroup's."""
    started_at, owner = row["started_at"], "project" in by or "token" in by
    date = datetime.fromtimestamp(started_at // SECOND, zone).replace(hour=0, minute=0, second=0, tzinfo=UTC)
    return (
        microseconds(date.replace(day=1)) if "month" in by else None,
        microseconds(date - timedelta(days=date.weekday())) if "week" in by else None,
        microseconds(date) if "day" in by else None,
        started_at - started_at % HOUR if "hour" in by else None,
        row["project_id"] if owner else None,
        row["token_id"] if "token" in by else None,
        (row.get("model") if "model" in by else None) or None,
        row["endpoint"] if "endpoint" in by else None,
    )


def microseconds(moment: datetime) -> int:
    return round(moment.timestamp()) * SECOND


def naive(
    rows: Rows, by: list[str], about: UsageFilter, zone: tzinfo = UTC
) -> dict[tuple[object, ...], dict[str, int]]:
    groups: dict[tuple[object, ...], dict[str, int]] = defaultdict(lambda: dict.fromkeys(UsageSums._fields, 0))
    for row in rows:
        if (about.start or 0) <= row["started_at"] < (about.end or 2**62) and all(
            asked is None or asked == (row.get(name) or "")
            for name, asked in [
                ("project_id", about.project_id),
                ("token_id", about.token_id),
                ("model", about.model),
                ("endpoint", about.endpoint),
            ]
        ):
            group = groups[key_of(row, by, zone)]
            added = sums_of(row) if "settled_at" in row else {"requests": 1, "in_flight": 1}
            for name, number in added.items():
                group[name] += number
    return groups


def times_of(group: UsageGroup) -> tuple[int | None, ...]:
    return (group.month, group.week, group.day, group.hour)


def shown(report: UsageReport) -> dict[tuple[object, ...], dict[str, int]]:
    return {
        (*times_of(group), group.project_id, group.token_id, group.model, group.endpoint): group.sums._asdict()
        for group in report.groups
        if group.sums.requests
    }


def dimensions(by: list[str]) -> list[Dimension]:
    return [Dimension(name) for name in by]


@pytest.mark.parametrize("by", GROUPINGS, ids="+".join)
def test_every_sum_is_that_of_the_rows(rows: tuple[Store, Rows], by: list[str]) -> None:
    store, all_rows = rows
    generator = random.Random("+".join(by))  # noqa: S311 - a test's
    for _ in range(25):
        start, end = sorted((somewhere(generator), somewhere(generator)))
        about = UsageFilter(
            start=generator.choice([None, start]),
            end=generator.choice([None, end]),
            project_id=generator.choice([None, None, str(uuid.UUID(int=1))]),
            token_id=generator.choice([None, None, str(uuid.UUID(int=2))]),
            model=generator.choice([None, None, "gpt-4o", ""]),
            endpoint=generator.choice([None, None, "/v1/embeddings"]),
        )
        report = UsageReports(store).report(dimensions(by), about)
        assert shown(report) == naive(all_rows, by, about), about
        assert report.totals == UsageSums.total(group.sums for group in report.groups)
        assert (report.start, report.end) == (about.start, about.end)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Chatham", "UTC"])
@pytest.mark.parametrize("by", [by for by in GROUPINGS if {"day", "week", "month"} & {*by}], ids="+".join)
def test_every_sum_is_that_of_the_rows_in_a_time_zone(rows: tuple[Store, Rows], by: list[str], zone: str) -> None:
    store, all_rows = rows
    generator = random.Random(zone + "+".join(by))  # noqa: S311 - a test's
    for _ in range(6):
        start, end = sorted((somewhere(generator), somewhere(generator)))
        about = UsageFilter(
            start=generator.choice([None, 0, start]),
            end=generator.choice([None, NEVER, end]),
            project_id=generator.choice([None, str(uuid.UUID(int=1))]),
            model=generator.choice([None, "gpt-4o", ""]),
        )
        report = UsageReports(store).report(dimensions(by), about, ZoneInfo(zone))
        assert shown(report) == naive(all_rows, by, about, ZoneInfo(zone)), about
        assert report.totals == UsageSums.total(group.sums for group in report.groups)
        assert (report.start, report.end, report.timezone) == (about.start, about.end, zone)


def test_all_admitted_requests_count_once(rows: tuple[Store, Rows]) -> None:
    store, all_rows = rows
    totals = UsageReports(store).totals(UsageFilter())
    assert totals.requests == len(all_rows)
    assert totals.in_flight == sum("settled_at" not in row for row in all_rows) > 0
    assert totals.unknown == sum(row.get("usage_source") == Source.UNKNOWN for row in all_rows) > 0


def test_the_time_range_is_widened_to_the_day_where_rows_are_deleted(store: Store) -> None:
    settle_requests(store, [{"started_at": MIDNIGHT + hour * HOUR + 7} for hour in range(3 * 24)])
    forget(store, MIDNIGHT + DAY + 6 * HOUR + HOUR // 2)
    reports = UsageReports(store)

    def counted(start: int, end: int) -> tuple[int, int, int]:
        report = reports.report((), UsageFilter(MIDNIGHT + start, MIDNIGHT + end))
        assert report.start is not None
        assert report.end is not None
        return report.totals.requests, report.start - MIDNIGHT, report.end - MIDNIGHT

    assert counted(HOUR, 2 * HOUR) == (24, 0, DAY)
    assert counted(HOUR, DAY + 20 * HOUR) == (48, 0, 2 * DAY)
    assert counted(DAY + 20 * HOUR, 2 * DAY + HOUR) == (25, DAY, 2 * DAY + HOUR)
    assert counted(2 * DAY + HOUR + 7, 2 * DAY + HOUR + 8) == (1, 2 * DAY + HOUR + 7, 2 * DAY + HOUR + 8)
    assert counted(2 * DAY + HOUR + 8, 3 * DAY + 1) == (22, 2 * DAY + HOUR + 8, 3 * DAY + 1)


def test_the_time_range_is_widened_to_the_hour_where_only_rows_are_deleted(store: Store) -> None:
    for second in range(5):
        settle_request(store, started_at=MIDNIGHT + second * SECOND)
    forget(store, MIDNIGHT + 2 * SECOND)
    report = UsageReports(store).report((), UsageFilter(MIDNIGHT + 3 * SECOND, MIDNIGHT + 2 * HOUR))
    assert (report.totals.requests, report.start, report.end) == (5, MIDNIGHT, MIDNIGHT + 2 * HOUR)


def test_deleted_hours_are_not_shown(store: Store) -> None:
    for hour in range(6):
        settle_request(store, started_at=MIDNIGHT + hour * HOUR)
    forget(store, MIDNIGHT + 4 * HOUR)
    report = UsageReports(store).report([Dimension.HOUR], UsageFilter())
    assert [group.hour for group in report.groups] == [MIDNIGHT + 4 * HOUR, MIDNIGHT + 5 * HOUR]
    assert UsageReports(store).report([Dimension.DAY], UsageFilter()).totals.requests == 6


BERLIN, KOLKATA, LONDON = (ZoneInfo(name) for name in ("Europe/Berlin", "Asia/Kolkata", "Europe/London"))


def days_of(store: Store, about: UsageFilter, zone: ZoneInfo, by: Dimension = Dimension.DAY) -> list[tuple[str, int]]:
    """Return the dates of a report with their admitted requests."""
    groups = UsageReports(store).report([by], about, zone).groups
    return [(to_date(group.day or group.week or group.month or 0), group.sums.requests) for group in groups]


def test_days_of_23_and_25_hours_have_all_their_requests(store: Store) -> None:
    """2024-10-27 in Berlin has 25 hours, 2024-03-31 has 23; each hour has one request."""
    for middle in (from_rfc3339("2024-03-31T12:00:00Z"), from_rfc3339("2024-10-27T12:00:00Z")):
        settle_requests(store, [{"started_at": middle + hour * HOUR} for hour in range(-30, 30)])
    days = dict(days_of(store, UsageFilter(), BERLIN))
    assert [days[day] for day in ("2024-03-31", "2024-04-01", "2024-10-27")] == [23, 20, 25]
    assert dict(days_of(store, UsageFilter(), LONDON))["2024-10-27"] == 25
    assert sum(days.values()) == 120


def test_running_and_refused_requests_are_on_days_of_the_time_zone(store: Store) -> None:
    for hour in (9, 10, 33, 34):
        open_request(store, started_at=NOON + hour * HOUR)
        refuse_request(store, started_at=NOON + hour * HOUR, repeats=hour)
    groups = UsageReports(store).report([Dimension.DAY], UsageFilter(), BERLIN).groups
    assert [(to_date(group.day or 0), group.sums.in_flight, group.sums.refused) for group in groups] == [
        ("2024-10-04", 1, 9),
        ("2024-10-05", 2, 43),
        ("2024-10-06", 1, 34),
    ]


def test_without_groups_of_days_a_time_zone_changes_nothing(store: Store) -> None:
    settle_request(store)
    for by in ([], [Dimension.MODEL], [Dimension.HOUR]):
        local, utc = (UsageReports(store).report(by, UsageFilter(), zone) for zone in (KOLKATA, None))
        assert local == replace(utc, timezone="Asia/Kolkata")


def test_a_store_without_requests_has_no_days(store: Store) -> None:
    for about in (UsageFilter(), UsageFilter(0, NEVER), UsageFilter(NOON, NOON - DAY)):
        report = UsageReports(store).report([Dimension.DAY], about, BERLIN)
        assert (report.groups, report.start, report.end) == ([], about.start, about.end)
    settle_request(store)
    assert days_of(store, UsageFilter(NOON + HOUR, NOON), BERLIN) == []


def fill_days(store: Store, days: int) -> None:
    """Write a request for each quarter of an hour."""
    settle_requests(store, [{"started_at": MIDNIGHT + quarter * HOUR // 4} for quarter in range(days * 96)])


def test_days_of_whole_hours_need_hours_alone(store: Store) -> None:
    fill_days(store, 3)
    before = days_of(store, UsageFilter(), BERLIN)
    with store.database.write():
        Request.delete().where(Request.started_at < MIDNIGHT + 2 * DAY).execute()
    assert (
        days_of(store, UsageFilter(), BERLIN)
        == before
        == [(f"2024-10-0{day}", n) for day, n in ((4, 88), (5, 96), (6, 96), (7, 8))]
    )
    with pytest.raises(InvalidRequest) as refused:
        days_of(store, UsageFilter(), KOLKATA)
    assert str(refused.value.message) == (
        "Before 2024-10-07 only the sums of hours are kept, which do not tell the days of Asia/Kolkata apart: "
        "ask from 2024-10-07 on, for a time zone of whole hours, or without a time zone."
    )
    start = from_rfc3339("2024-10-07", KOLKATA)
    assert days_of(store, UsageFilter(start=start), KOLKATA) == [("2024-10-07", 22)]


def test_days_are_refused_only_where_they_cannot_be_told_apart(store: Store) -> None:
    fill_days(store, 4)
    forget(store, MIDNIGHT + 2 * DAY)
    with pytest.raises(InvalidRequest, match=r"^Before 2024-10-07 only the sums of days .* ask from 2024-10-07 on,"):
        days_of(store, UsageFilter(), BERLIN)
    for day in (5, 6):
        with pytest.raises(InvalidRequest, match="days of Europe/Berlin"):
            days_of(store, UsageFilter(from_rfc3339(f"2024-10-0{day}", BERLIN), MIDNIGHT + 2 * DAY), BERLIN)
    start = from_rfc3339("2024-10-07", BERLIN)
    assert days_of(store, UsageFilter(start=start), BERLIN) == [("2024-10-07", 96), ("2024-10-08", 8)]
    # Nothing is counted on another day: a week and a month have their edges where nothing was deleted.
    assert days_of(store, UsageFilter(), BERLIN, Dimension.MONTH) == [("2024-10-01", 384)]
    assert days_of(store, UsageFilter(), BERLIN, Dimension.WEEK) == [("2024-09-30", 280), ("2024-10-07", 104)]
    # Days of UTC need no hours.
    assert [number for _, number in days_of(store, UsageFilter(), ZoneInfo("UTC"))] == [96] * 4


def test_the_outer_edges_are_widened_within_their_period_alone(store: Store) -> None:
    fill_days(store, 4)
    forget(store, MIDNIGHT + 2 * DAY)
    reports = UsageReports(store)
    about = UsageFilter(MIDNIGHT + DAY + 5 * HOUR, MIDNIGHT + 3 * DAY)
    report = reports.report([Dimension.MONTH], about, BERLIN)
    assert (report.totals.requests, report.start, report.end) == (192, MIDNIGHT + DAY, about.end)
    with pytest.raises(InvalidRequest, match="only the sums of days"):
        reports.report([Dimension.DAY], about, BERLIN)
    in_winter = UsageFilter(from_rfc3339("2024-12-24T10:20:00Z"), from_rfc3339("2024-12-24T11:00:00Z"))
    settle_request(store, started_at=in_winter.end)
    forget(store, NEVER)
    report = reports.report([Dimension.DAY], in_winter, LONDON)
    assert (report.totals.requests, report.start, report.end) == (
        1,
        from_rfc3339("2024-12-24"),
        from_rfc3339("2024-12-25"),
    )


def test_a_report_of_too_many_days_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in (0, 5):
        settle_request(store, started_at=NOON + day * DAY)
    monkeypatch.setattr(usage_report, "MAX_GROUPS", 5)
    with pytest.raises(InvalidRequest, match="more than 5 groups"):
        UsageReports(store).report([Dimension.DAY], UsageFilter(), BERLIN)
    monkeypatch.setattr(usage_report, "MAX_GROUPS", 6)
    assert len(days_of(store, UsageFilter(), BERLIN)) == 2
    for model in "abcdef":
        settle_request(store, model=model)
    with pytest.raises(InvalidRequest, match="more than 6 groups"):
        UsageReports(store).report([Dimension.DAY, Dimension.MODEL], UsageFilter(), BERLIN)


def test_a_year_of_days_fits_into_statements(store: Store) -> None:
    """SQLite allows 500 SELECTs in a statement, and 400 days have more parts."""
    settle_requests(store, [{"started_at": NOON + day * DAY} for day in range(400)])
    assert len(days_of(store, UsageFilter(), BERLIN)) == 400
    assert len(days_of(store, UsageFilter(), KOLKATA)) == 400
    assert sum(number for _, number in days_of(store, UsageFilter(), KOLKATA, Dimension.MONTH)) == 400


@pytest.mark.parametrize(
    ("columns", "cost"),
    [
        ({"usage_source": Source.UNKNOWN}, None),
        ({"usage_source": Source.OBSERVED, "cost": None}, None),
        ({"usage_source": Source.OBSERVED, "cost": 0}, Decimal(0)),
        ({"usage_source": Source.ESTIMATED, "cost": 43_500_001}, Decimal("0.000043500001")),
    ],
)
def test_an_unknown_cost_is_none(store: Store, columns: dict[str, Any], cost: Decimal | None) -> None:
    open_request(store)
    settle_request(store, usage_source=Source.UNKNOWN)
    settle_request(store, **columns)
    assert UsageReports(store).totals(UsageFilter()).cost_usd == cost


def test_costs_add_up_beyond_64_bits(store: Store) -> None:
    highest = 9_000_000 * COST_UNIT + 1
    for day in range(3):
        settle_request(store, started_at=NOON + day * DAY, usage_source=Source.OBSERVED, cost=highest)
    sums = UsageReports(store).totals(UsageFilter(end=NOON + 2 * DAY + 1))
    assert sums.cost_usd == Decimal("27000000.000000000003")


def test_a_report_without_requests_has_zero_totals(store: Store) -> None:
    nothing = UsageSums(*[0] * len(UsageSums._fields))
    for about in (UsageFilter(), UsageFilter(NOON, NOON), UsageFilter(NOON, NOON - DAY), UsageFilter(0, 0)):
        report = UsageReports(store).report([Dimension.MODEL], about)
        assert (report.totals, report.groups) == (nothing, [])
        assert UsageReports(store).report((), about).groups == [usage_report.UsageGroup(nothing)]


def test_groups_of_projects_and_tokens_are_named(store: Store) -> None:
    projects = Projects(store)
    kept, gone = projects.create("Kept", API_KEY), projects.create("Gone", API_KEY)
    for project_id in (kept.id, gone.id, PROJECT_ID):
        settle_request(store, project_id=project_id, token_id=project_id)
    projects.delete(gone.id)
    for by in (Dimension.PROJECT, Dimension.TOKEN):
        groups = UsageReports(store).report([by], UsageFilter()).groups
        names = {group.project_id: group.project_name for group in groups}
        assert names == {kept.id: "Kept", gone.id: "Gone", PROJECT_ID: None}
    assert UsageReports(store).report([Dimension.MODEL], UsageFilter()).groups[0].project_name is None


def test_tokens_are_named_where_they_are_shown(store: Store) -> None:
    kept, gone, nameless = (make_token(store) for _ in range(3))
    for token, name in ((kept, "Kept"), (gone, "Gone"), (nameless, None)):
        set_columns(store, "token", token.id, token_name=name)
        settle_request(store, project_id=token.project_id, token_id=token.id)
    settle_request(store)
    Projects(store).delete(gone.project_id)
    groups = UsageReports(store).report([Dimension.TOKEN, Dimension.DAY], UsageFilter()).groups
    names = {group.token_id: (group.token_name, group.project_name) for group in groups}
    assert names == {
        kept.id: ("Kept", "Tests"),
        gone.id: ("Gone", "Tests"),
        nameless.id: (None, "Tests"),
        TOKEN_ID: (None, None),
    }
    assert {group.token_name for group in UsageReports(store).report([Dimension.PROJECT], UsageFilter()).groups} == {
        None
    }


def test_groups_are_ordered_by_time_and_cost(store: Store) -> None:
    for day, model, cost in [(1, "a", 1), (0, "a", 1), (0, "b", 2), (0, None, None)]:
        settle_request(store, started_at=NOON + day * DAY, model=model, usage_source=Source.OBSERVED, cost=cost)
    groups = UsageReports(store).report([Dimension.MODEL, Dimension.DAY], UsageFilter()).groups
    assert [(group.day, group.model) for group in groups] == [
        (MIDNIGHT, "b"),
        (MIDNIGHT, "a"),
        (MIDNIGHT, None),
        (MIDNIGHT + DAY, "a"),
    ]


def test_too_many_groups_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_report, "MAX_GROUPS", 3)
    for model in "abc":
        settle_request(store, model=model)
        settle_request(store, model=model, started_at=NOON + DAY)
    about = UsageFilter(NOON - 1, NOON + DAY + 1)
    assert len(UsageReports(store).report([Dimension.MODEL], about).groups) == 3
    for hour in range(20):
        settle_request(store, model=f"d{hour}")
    with pytest.raises(InvalidRequest, match="more than 3 groups"):
        UsageReports(store).report([Dimension.MODEL], about)


def test_too_many_days_of_a_month_are_refused_and_not_left_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_report, "MAX_GROUPS", 3)
    for day in range(20):
        settle_request(store, started_at=NOON + day * DAY)
    with pytest.raises(InvalidRequest, match="more than 3 groups"):
        UsageReports(store).report([Dimension.MONTH], UsageFilter())
