import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.stores.limits import used
from support.stores.stores import API_KEY, UNKNOWN_TOKEN, admission_of, make_token, opening, rows, set_columns

from store.admission.admission import Admission
from store.errors import InvalidRequest, NotFound, StoreUnavailable
from store.ledger.ledger import Settlement
from store.limits.rate_limits import MOST, RateLimit
from store.management import bulk, limits
from store.management.projects import ProjectRecord, Projects
from store.management.tokens import TokenRecord, Tokens
from store.store import Store

type Record = TokenRecord | ProjectRecord

MINUTE: RateLimit = {"requests": 60, "per": "minute"}
DAY: RateLimit = {"requests": 5000, "per": "day"}
SECOND: RateLimit = {"requests": 5, "per": "second"}
HOUR: RateLimit = {"requests": 600, "per": "hour"}


class Owners:
    """Makes and changes owners of limits: tokens, or projects."""

    def __init__(self, store: Store, kind: str) -> None:
        self._store = store
        self.managed: Any = Projects(store)
        self._named: Sequence[str] = ("One", API_KEY)
        if kind == "token":
            self._named, self.managed = (self.managed.create(*self._named).id,), Tokens(store)

    def make(self, **named: Any) -> Record:
        record: Record = self.managed.create(*self._named, **named)
        return record

    def update(self, owner: Record, **changes: Any) -> Record:
        record: Record = self.managed.update(owner.id, changes)
        return record

    def value(self, owner: Record) -> str:
        """Return the value of a token that the limits of the owner hold for."""
        return owner.value if isinstance(owner, TokenRecord) else make_token(self._store, project_id=owner.id).value


@pytest.fixture(params=["token", "project"])
def owners(store: Store, request: pytest.FixtureRequest) -> Owners:
    return Owners(store, request.param)


def admit(store: Store, value: str, number: int) -> None:
    """Admit requests of a token; they are settled as unknown at the end."""

    async def admit_all(admission: Admission) -> None:
        for _ in range(number):
            await admission.admit(value, opening())

    with admission_of(store) as admission:
        asyncio.run(admit_all(admission))


def maxima(store: Store) -> dict[str, int]:
    return {row["id"].partition("/")[2]: row["maximum"] for row in rows(store, "balance")}


def shown(record: Record) -> list[tuple[str | None, int, int]]:
    return [(each.per, each.limit, each.used) for each in record.limits]


def test_limits_are_set_with_their_owner(store: Store, owners: Owners) -> None:
    made = owners.make(rate_limits=[MINUTE, DAY], max_parallel_requests=20)
    assert (made.rate_limits, made.max_parallel_requests) == ([MINUTE, DAY], 20)
    assert shown(made) == [("day", 5000, 0), ("minute", 60, 0), (None, 20, 0)]
    assert owners.managed.get(made.id) == made
    assert maxima(store) == {"requests/minute": 60, "requests/day": 5000, "parallel": 20}
    assert {row["owner_id"] for row in rows(store, "balance")} == {made.id}


def test_an_owner_has_no_limits_by_itself(store: Store, owners: Owners) -> None:
    made = owners.make()
    assert (made.rate_limits, made.max_parallel_requests, made.limits) == (None, None, ())
    assert rows(store, "balance") == []


def test_limits_are_shown_in_the_order_in_which_they_are_checked(owners: Owners) -> None:
    made = owners.make(rate_limits=[SECOND, MINUTE, HOUR, DAY], max_parallel_requests=1)
    assert [each.per for each in made.limits] == ["day", "hour", "minute", "second", None]
    assert [each.kind for each in made.limits] == [*["requests"] * 4, "parallel"]
    assert made.rate_limits == [SECOND, MINUTE, HOUR, DAY]


def test_limits_are_added_to_an_owner(store: Store, owners: Owners) -> None:
    owner = owners.make()
    assert shown(owners.update(owner, rate_limits=[HOUR])) == [("hour", 600, 0)]
    both = owners.update(owner, max_parallel_requests=2)
    assert (both.rate_limits, both.max_parallel_requests) == ([HOUR], 2)
    assert maxima(store) == {"requests/hour": 600, "parallel": 2}


def test_an_update_changes_the_limits_that_it_names(store: Store, owners: Owners) -> None:
    owner = owners.make(rate_limits=[HOUR], max_parallel_requests=2)
    assert owners.update(owner, max_parallel_requests=None).rate_limits == [HOUR]
    assert maxima(store) == {"requests/hour": 600}
    assert owners.update(owner, is_active=False).rate_limits == [HOUR]
    assert owners.update(owner, rate_limits=None, max_parallel_requests=7).limits[0].limit == 7
    assert maxima(store) == {"parallel": 7}


@pytest.mark.parametrize("none", [None, []])
def test_no_windows_are_kept_as_they_were_written(store: Store, owners: Owners, none: list[RateLimit] | None) -> None:
    owner = owners.make(rate_limits=[HOUR])
    removed = owners.update(owner, rate_limits=none)
    assert (removed.rate_limits, removed.limits, owners.make(rate_limits=none).rate_limits) == (none, (), none)
    assert rows(store, "balance") == []


def test_another_maximum_keeps_the_count(store: Store, owners: Owners) -> None:
    owner = owners.make(rate_limits=[{"requests": 10, "per": "day"}, HOUR])
    admit(store, owners.value(owner), 3)
    assert shown(owners.managed.get(owner.id)) == [("day", 10, 3), ("hour", 600, 3)]
    raised = owners.update(owner, rate_limits=[{"requests": 20, "per": "day"}, MINUTE])
    assert shown(raised) == [("day", 20, 3), ("minute", 60, 0)]
    lowered = owners.update(owner, rate_limits=[{"requests": 2, "per": "day"}])
    assert shown(lowered) == [("day", 2, 3)]
    assert lowered.limits[0].remaining == 0


def test_a_window_that_is_set_again_begins_with_nothing(store: Store, owners: Owners) -> None:
    owner = owners.make(rate_limits=[DAY])
    admit(store, owners.value(owner), 3)
    owners.update(owner, rate_limits=None)
    assert shown(owners.update(owner, rate_limits=[DAY])) == [("day", 5000, 0)]


def test_a_limit_that_is_removed_takes_its_slots_along(store: Store, owners: Owners) -> None:
    """A request that held one is settled, and the count of the limit that is set again stays right."""
    owner = owners.make(max_parallel_requests=2, rate_limits=[DAY])
    other = owners.make(max_parallel_requests=1)

    async def run(admission: Admission) -> None:
        admitted = await admission.admit(owners.value(owner), opening())
        await admission.admit(owners.value(other), opening())
        assert used(store, owner.id) == {"parallel": 1, "day": 1}
        owners.update(owner, max_parallel_requests=None)
        assert [row["balance_id"] for row in rows(store, "slot")] == [f"{other.id}/parallel"]
        owners.update(owner, max_parallel_requests=1)
        await admission.admit(owners.value(owner), opening())
        admission.settle(Settlement(admitted.opened))
        await admission.check()
        assert used(store, owner.id) == {"parallel": 1, "day": 2}

    with admission_of(store) as admission:
        asyncio.run(run(admission))
    assert used(store, owner.id) == {"parallel": 0, "day": 2}
    assert rows(store, "slot") == []


BAD: Sequence[tuple[Mapping[str, Any], str]] = [
    ({"rate_limits": [{"requests": 0, "per": "day"}]}, "'rate_limits[0].requests' must be from 1 to"),
    ({"rate_limits": [MINUTE, {"requests": MOST + 1, "per": "day"}]}, "'rate_limits[1].requests' must be from 1 to"),
    ({"rate_limits": [{"requests": 1, "per": "week"}]}, "'rate_limits[0].per' must be one of"),
    ({"rate_limits": [MINUTE, DAY, MINUTE]}, "'rate_limits[2]' is for the same window as 'rate_limits[0]'"),
    ({"rate_limits": [MINUTE] * 9}, "'rate_limits' must have at most 8 windows"),
    ({"max_parallel_requests": 0}, "'max_parallel_requests' must be from 1 to"),
    ({"max_parallel_requests": MOST + 1}, "'max_parallel_requests' must be from 1 to"),
]


@pytest.mark.parametrize(("bad", "message"), BAD)
def test_bad_limits_are_refused_and_change_nothing(
    store: Store, owners: Owners, bad: Mapping[str, Any], message: str
) -> None:
    owner = owners.make(rate_limits=[HOUR], max_parallel_requests=2)
    before = [rows(store, table) for table in ("project", "token", "balance")]
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        owners.update(owner, is_active=False, **bad)
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        owners.make(**bad)
    assert [rows(store, table) for table in ("project", "token", "balance")] == before


def test_the_highest_limits_are_accepted(owners: Owners) -> None:
    made = owners.make(rate_limits=[{"requests": MOST, "per": "day"}], max_parallel_requests=MOST)
    assert [each.remaining for each in made.limits] == [MOST, MOST]


@pytest.mark.parametrize("table", ["balance", "slot"])
def test_limits_that_cannot_be_stored_are_an_error(store: Store, owners: Owners, table: str) -> None:
    owner = owners.make(max_parallel_requests=2)
    with store.database.read():
        store.database.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
    with pytest.raises(StoreUnavailable):
        owners.update(owner, max_parallel_requests=None)
    if table == "balance":
        with pytest.raises(StoreUnavailable):
            owners.make(rate_limits=[DAY])
    with store.database.read():
        store.database.execute(f"ALTER TABLE elsewhere RENAME TO {table}")
    assert owners.managed.list() == [owner]


def test_limits_of_an_unknown_owner_are_not_stored(store: Store, owners: Owners) -> None:
    with pytest.raises(NotFound):
        owners.managed.update(UNKNOWN_TOKEN, {"max_parallel_requests": 2})
    assert rows(store, "balance") == []


def test_the_check_of_an_update_sees_the_limits_before_it(owners: Owners) -> None:
    owner = owners.make(max_parallel_requests=2)
    seen: list[Record] = []
    owners.managed.update(owner.id, {"max_parallel_requests": 3}, seen.append)
    assert seen == [owner]


def test_the_present_limits_of_a_project_are_no_change(store: Store) -> None:
    projects = Projects(store)
    project = projects.create("One", API_KEY, rate_limits=[MINUTE], max_parallel_requests=2)
    set_columns(store, "project", project.id, updated_at=1)
    turned: RateLimit = {"per": "minute", "requests": 60}
    assert projects.update(project.id, {"rate_limits": [turned], "max_parallel_requests": 2}).updated_at == 1
    assert projects.update(project.id, {"rate_limits": [MINUTE, DAY]}).updated_at > 1


def test_each_token_of_a_list_has_its_own_limits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_TOGETHER", 2)
    project_id = Projects(store).create("One", API_KEY, max_parallel_requests=100).id
    for number in range(5):
        make_token(store, project_id=project_id, max_parallel_requests=number or None)
    listed = Tokens(store).list()
    assert [shown(token) for token in listed] == [
        [(None, token.max_parallel_requests, 0)] if token.max_parallel_requests else [] for token in listed
    ]
    assert {token.max_parallel_requests for token in listed} == {None, 1, 2, 3, 4}
    assert [shown(project) for project in Projects(store).list()] == [[(None, 100, 0)]]


def test_a_revoked_token_keeps_its_limits(store: Store) -> None:
    token = make_token(store, rate_limits=[DAY], max_parallel_requests=3)
    Tokens(store).revoke(token.id)
    Tokens(store).revoke_all(token.project_id)
    assert Tokens(store).get(token.id).limits == token.limits


@pytest.mark.parametrize("batch", [1, 2, 2000])
def test_a_deleted_project_takes_all_limits_and_slots_along(
    store: Store, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(bulk, "BATCH", batch)
    monkeypatch.setattr(limits, "_TOGETHER", 2)
    kept = make_token(store, max_parallel_requests=2)
    gone = Projects(store).create("Gone", API_KEY, max_parallel_requests=9, rate_limits=[DAY, HOUR]).id
    tokens = [make_token(store, project_id=gone, max_parallel_requests=1, rate_limits=[DAY]) for _ in range(5)]
    admission = Admission(store)

    async def run() -> None:
        for token in (kept, *tokens):
            await admission.admit(token.value, opening())
        assert len(rows(store, "slot")) == 11
        Projects(store).delete(gone)
        assert [row["balance_id"] for row in rows(store, "slot")] == [f"{kept.id}/parallel"]

    asyncio.run(run())
    admission.close()
    assert maxima(store) == {"parallel": 2}
    assert rows(store, "slot") == []


def in_threads(store: Store, acts: Sequence[Callable[[], object]]) -> None:
    """Run all at once."""

    def run(act: Callable[[], object]) -> None:
        try:
            act()
        finally:
            store.database.close()

    with ThreadPoolExecutor(len(acts)) as pool:
        [*pool.map(run, acts)]


def test_changes_at_the_same_time_leave_a_balance_for_each_limit(store: Store, owners: Owners) -> None:
    owner = owners.make()
    wanted: list[dict[str, Any]] = [
        {"rate_limits": [MINUTE, DAY]},
        {"rate_limits": None},
        {"rate_limits": [{"requests": 7, "per": "day"}, SECOND]},
        {"max_parallel_requests": 3},
        {"max_parallel_requests": None},
    ]

    def change(changes: dict[str, Any]) -> None:
        for _ in range(6):
            owners.update(owner, **changes)

    in_threads(store, [lambda changes=changes: change(changes) for changes in wanted])  # type: ignore[misc]
    after = owners.managed.get(owner.id)
    windows = {f"requests/{each['per']}": each["requests"] for each in after.rate_limits or ()}
    parallel = {"parallel": after.max_parallel_requests} if after.max_parallel_requests else {}
    assert maxima(store) == {**windows, **parallel}
    assert {each.limit for each in after.limits} == {*maxima(store).values()}


def test_counting_goes_on_while_limits_change(store: Store, owners: Owners) -> None:
    owner = owners.make(rate_limits=[DAY], max_parallel_requests=500)
    value, requests = owners.value(owner), 100

    async def count(admission: Admission) -> None:
        admits = [asyncio.create_task(admission.admit(value, opening())) for _ in range(requests)]
        for number in range(10):
            owners.update(owner, rate_limits=[{"requests": 1000 + number, "per": "day"}])
            await asyncio.sleep(0)
        await asyncio.gather(*admits)

    with admission_of(store) as admission:
        asyncio.run(count(admission))
        assert used(store, owner.id) == {"day": requests, "parallel": requests}
    assert shown(owners.managed.get(owner.id)) == [("day", 1009, requests), (None, 500, 0)]


def test_limits_are_named_by_their_fields_alone() -> None:
    assert limits.named({"max_parallel_requests": None, "name": "x"}) == {"max_parallel_requests": None}
    assert limits.named({"name": "x"}) == {}
