import uuid
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stores.ledger import NOON, PROJECT_ID, TOKEN_ID, open_request, refuse_request, settle_request
from support.stores.stores import make_token

from store.errors import InvalidRequest
from store.ids import new_request_id
from store.ledger.usage import Source
from store.management.projects import Projects
from store.reports.pages import Cursor
from store.reports.request_list import OPEN, RequestFilter, RequestList
from store.store import Store

OTHER = str(uuid.UUID(int=99))


@pytest.fixture
def requests(store: Store) -> RequestList:
    return RequestList(store)


def ids(requests: RequestList, about: RequestFilter) -> set[str]:
    return {record.id for record in requests.page(about).records}


def test_pages_join_without_gaps_while_rows_are_added(store: Store, requests: RequestList) -> None:
    rows = [settle_request(store, started_at=NOON + number // 3) for number in range(20)]
    expected = [row["id"] for row in sorted(rows, key=lambda row: (row["started_at"], row["id"]), reverse=True)]
    found, cursor = [], None
    while True:
        page = requests.page(RequestFilter(), limit=3, after=cursor)
        found += [record.id for record in page.records]
        if page.next_cursor is None:
            break
        cursor = Cursor.parse(str(page.next_cursor))
        settle_request(store, started_at=NOON + 100)
    assert found == expected


def test_the_last_page_has_no_next_one(store: Store, requests: RequestList) -> None:
    for _ in range(4):
        settle_request(store)
    assert requests.page(RequestFilter(), limit=4).next_cursor is None
    assert requests.page(RequestFilter(), limit=3).next_cursor is not None


def test_a_record_has_the_columns_of_its_row(store: Store, requests: RequestList) -> None:
    row = settle_request(
        store,
        usage_source=Source.OBSERVED,
        upstream_request_id="req_1",
        model_asked="gpt-4o",
        model="gpt-4o-2024-08-06",
        streamed=True,
        duration_ms=900,
        first_byte_ms=200,
        request_bytes=1,
        response_bytes=2,
        input_tokens=3,
        cost=43_500_000,
        price='{"input": "2.5"}',
    )
    (record,) = requests.page(RequestFilter()).records
    for name in ("id", "started_at", "model_asked", "model", "duration_ms", "first_byte_ms", "input_tokens", "cost"):
        assert getattr(record, name) == row[name]
    assert (record.project_id, record.token_id, record.status) == (PROJECT_ID, TOKEN_ID, 200)
    assert record.streamed is True
    assert record.output_tokens is None
    assert record.price_used == {"input": "2.5"}


def test_records_have_the_names_of_projects_and_tokens(store: Store, requests: RequestList) -> None:
    kept, gone = (make_token(store, name=name) for name in ("Ann", "Ben"))
    for token in (kept, gone):
        settle_request(store, project_id=token.project_id, token_id=token.id)
    nameless = settle_request(store)
    Projects(store).delete(gone.project_id)
    names = {
        record.token_id: (record.project_name, record.token_name) for record in requests.page(RequestFilter()).records
    }
    assert names == {kept.id: ("Tests", "Ann"), gone.id: ("Tests", "Ben"), TOKEN_ID: (None, None)}
    assert requests.get(nameless["id"]).project_name is None


def test_a_running_request_has_no_result(store: Store, requests: RequestList) -> None:
    open_request(store)
    (record,) = requests.page(RequestFilter()).records
    assert (record.usage_source, record.status, record.streamed, record.cost, record.price_used) == (None,) * 5


def test_requests_are_filtered(store: Store, requests: RequestList) -> None:
    rows = {
        "observed": settle_request(
            store, usage_source=Source.OBSERVED, model="gpt-4o-2024-08-06", model_asked="gpt-4o"
        ),
        "estimated": settle_request(store, usage_source=Source.ESTIMATED, status=429, started_at=NOON + 5),
        "unknown": settle_request(store, endpoint="/v1/models", project_id=OTHER, started_at=NOON - 5),
        "open": open_request(store, token_id=OTHER),
    }
    expected = {
        "observed": [
            RequestFilter(source=Source.OBSERVED),
            RequestFilter(model="gpt-4o"),
            RequestFilter(model="gpt-4o-2024-08-06", token_id=TOKEN_ID),
        ],
        "estimated": [RequestFilter(source=Source.ESTIMATED), RequestFilter(status=429), RequestFilter(start=NOON + 1)],
        "unknown": [
            RequestFilter(source=Source.UNKNOWN),
            RequestFilter(endpoint="/v1/models"),
            RequestFilter(project_id=OTHER),
            RequestFilter(end=NOON),
        ],
        "open": [RequestFilter(source=OPEN), RequestFilter(token_id=OTHER), RequestFilter(source=OPEN, start=NOON)],
    }
    for name, filters in expected.items():
        for about in filters:
            assert ids(requests, about) == {rows[name]["id"]}, about
    for nothing in (RequestFilter(source=OPEN, token_id=TOKEN_ID), RequestFilter(start=NOON + 1, end=NOON)):
        assert ids(requests, nothing) == set()


def test_requests_that_the_gateway_ended_are_listed_by_its_code_with_those_that_it_refused(
    store: Store, requests: RequestList
) -> None:
    cut = settle_request(store, code="token_inactive", started_at=NOON)
    refused = refuse_request(store, code="token_inactive", status=401, started_at=NOON + 1)
    other = settle_request(store, code="insufficient_quota", started_at=NOON + 2)
    whole, running = settle_request(store, started_at=NOON + 3), open_request(store, started_at=NOON + 4)
    page = requests.page(RequestFilter())
    assert [(record.id, record.code, record.repeats) for record in page.records] == [
        (running["id"], None, None),
        (whole["id"], None, None),
        (other["id"], "insufficient_quota", None),
        (refused["id"], "token_inactive", 1),
        (cut["id"], "token_inactive", None),
    ]
    assert [record.id for record in requests.page(RequestFilter(code="token_inactive")).records] == [
        refused["id"],
        cut["id"],
    ]
    assert ids(requests, RequestFilter(code="token_inactive", status=200)) == {cut["id"]}
    assert ids(requests, RequestFilter(code="token_inactive", source=Source.UNKNOWN)) == {cut["id"]}
    assert ids(requests, RequestFilter(code="token_inactive", token_id=OTHER)) == set()
    assert ids(requests, RequestFilter(code="token_inactive", source=OPEN)) == set()
    assert ids(requests, RequestFilter(code="project_inactive")) == set()
    assert requests.get(cut["id"]).code == "token_inactive"


def test_pages_of_a_code_join(store: Store, requests: RequestList) -> None:
    made = [
        (settle_request if number % 2 else refuse_request)(store, code="token_inactive", started_at=NOON + number)
        for number in range(7)
    ]
    found, cursor = list[str](), None
    while not found or cursor is not None:
        page = requests.page(RequestFilter(code="token_inactive"), limit=2, after=cursor)
        found += [record.id for record in page.records]
        cursor = page.next_cursor
    assert found == [row["id"] for row in reversed(made)]


@given(st.integers(-(2**63), 2**63 - 1), st.uuids())
def test_a_cursor_is_read_as_it_was_written(started_at: int, request_id: uuid.UUID) -> None:
    cursor = Cursor(started_at, str(request_id))
    assert len(str(cursor)) == 32
    assert Cursor.parse(str(cursor)) == cursor


@settings(max_examples=50)
@given(cursor=st.text("ABCYZabcyz0189-_", min_size=32, max_size=32))
def test_every_text_of_the_right_form_is_a_cursor(cursor: str) -> None:
    assert str(Cursor.parse(cursor)) == cursor


@pytest.mark.parametrize(
    "text",
    ["", "x", "=" * 32, "é" * 32, "A" * 31, "A" * 33, "A" * 28 + "AA==", " " + "A" * 31, "+/" * 16, "A" * 10_000],
)
def test_a_bad_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Cursor.parse(text)


def test_any_cursor_returns_a_page(requests: RequestList) -> None:
    for started_at in (-(2**63), 0, 2**63 - 1):
        assert requests.page(RequestFilter(), after=Cursor(started_at, new_request_id())).records == []


def test_the_horizon_bounds_what_a_filter_without_an_index_looks_at(store: Store, requests: RequestList) -> None:
    rows = [settle_request(store, started_at=NOON + number, project_id=OTHER) for number in range(6)]
    settle_request(store, started_at=NOON + 3)
    slow = [
        RequestFilter(status=404),
        RequestFilter(model="x"),
        RequestFilter(endpoint="/x"),
        RequestFilter(source="x"),
    ]
    for about in slow:
        assert requests.horizon(about, 2) == NOON + 3
        assert requests.horizon(about, 6) == NOON
        assert requests.horizon(about, 7) is None
        assert requests.horizon(replace(about, project_id=OTHER), 4) == NOON + 1
        assert requests.horizon(replace(about, end=NOON + 3), 1) == NOON + 1
        assert requests.horizon(replace(about, start=NOON + 3), 3) == NOON + 3
        assert requests.horizon(replace(about, start=NOON + 3), 4) is None
        assert requests.horizon(about, 2, after=Cursor(NOON + 3, rows[0]["id"])) == NOON
    quick = [
        RequestFilter(),
        RequestFilter(token_id=TOKEN_ID),
        RequestFilter(code="x", status=1),
        RequestFilter(source=OPEN),
    ]
    for about in quick:
        assert requests.horizon(about, 1) is None
