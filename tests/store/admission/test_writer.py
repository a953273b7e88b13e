import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.gateway.processes import wait_until
from support.stores.stores import changed, foreign_lock, make_settings, opened

from store.admission import notes
from store.admission.notes import FEW, NOTE_DELAY
from store.admission.writer import BATCH, CAPACITY, GroupCommit
from store.errors import GatewayError, QuotaExhausted, StoreUnavailable
from store.runtime.settings import Settings
from store.store import Store

PATIENT = 30.0  # seconds, where a test is not about time: a busy machine changes nothing
TIMEOUT = 0.4
LATITUDE = 2.0  # for a busy machine; the lock itself is held for as long as the answers take

in_time = pytest.mark.parametrize("store", [TIMEOUT], indirect=True)

type Counter = GroupCommit[str, int, str]


@pytest.fixture
def store(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Store]:
    with opened(changed(settings, store_timeout=getattr(request, "param", PATIENT))) as store:
        make_table(store)
        yield store


def make_table(store: Store) -> None:
    with store.database.write():
        store.database.run("CREATE TABLE counted (item TEXT, number BIGINT)")


def count(store: Store, item: str) -> None:
    store.database.run("INSERT INTO counted SELECT CAST(? AS TEXT), COUNT(*) FROM counted", [item])


def counted(store: Store) -> list[str]:
    return [item for (item,) in store.database.execute("SELECT item FROM counted ORDER BY number", ())]


class Writer:
    """A group commit that counts items in a table, and can be held up or made to fail."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.batches: list[int] = []
        self.noted: list[int] = []
        self.fails_to_record = False
        self.deciding = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.failure: Exception | None = None
        self.unheard: list[int] = []
        self.commit: Counter = GroupCommit(store.database, self.decide, self.record, self.unheard.append, self.withdraw)

    def withdraw(self, results: Sequence[int]) -> None:
        for result in results:
            count(self.store, f"withdrawn {result}")

    def record(self, notes: Sequence[str], *, alone: bool) -> None:  # noqa: ARG002
        if self.fails_to_record:
            self.store.database.execute("INSERT INTO elsewhere VALUES (1)", ())
        self.noted.append(len(notes))
        for note in notes:
            count(self.store, note)

    def decide(self, items: Sequence[str]) -> Sequence[int | GatewayError]:
        self.batches.append(len(items))
        self.deciding.set()
        assert self.go_on.wait(10)
        outcomes: list[int | GatewayError] = []
        for item in items:
            if item == "refused":
                outcomes.append(QuotaExhausted())
                continue
            count(self.store, item)
            outcomes.append(len(items))
        if self.failure is not None:
            raise self.failure
        return outcomes


@pytest.fixture
def writer(store: Store) -> Iterator[Writer]:
    writer = Writer(store)
    yield writer
    writer.go_on.set()
    writer.commit.close()


async def gather(writer: Writer, items: Sequence[str]) -> list[int | BaseException]:
    return await asyncio.gather(*(writer.commit.submit(item) for item in items), return_exceptions=True)


def test_each_item_gets_its_own_result(store: Store, writer: Writer) -> None:
    results = asyncio.run(gather(writer, ["a", "refused", "b"]))
    assert isinstance(results[1], QuotaExhausted)
    assert isinstance(results[0], int)
    assert isinstance(results[2], int)
    assert counted(store) == ["a", "b"]


def test_what_waits_shares_a_transaction_in_the_order_of_arrival(store: Store, writer: Writer) -> None:
    items = [str(number) for number in range(2 * BATCH)]
    writer.go_on.clear()

    async def submit() -> None:
        first = asyncio.create_task(writer.commit.submit("first"))
        await asyncio.to_thread(writer.deciding.wait, 5)
        others = [asyncio.create_task(writer.commit.submit(item)) for item in items]
        await asyncio.sleep(0)
        writer.go_on.set()
        await asyncio.gather(first, *others)

    asyncio.run(submit())
    assert writer.batches == [1, BATCH, BATCH]
    assert counted(store) == ["first", *items]


@in_time
def test_a_foreign_lock_refuses_everything_in_time_and_counts_nothing(store: Store, writer: Writer) -> None:
    async def submit() -> tuple[float, list[int | BaseException]]:
        started = time.monotonic()
        results = await gather(writer, [str(number) for number in range(2 * BATCH)])
        return time.monotonic() - started, results

    async def locked_then_free() -> float:
        with foreign_lock(store):
            took, results = await submit()
        assert {type(result) for result in results} == {StoreUnavailable}
        assert TIMEOUT - 0.05 <= took <= TIMEOUT + LATITUDE
        started = time.monotonic()
        await writer.commit.submit("after")
        return time.monotonic() - started

    assert asyncio.run(locked_then_free()) < LATITUDE
    assert counted(store) == ["after"]


def test_a_lock_that_ends_in_time_is_waited_for(store: Store, writer: Writer) -> None:
    async def submit() -> None:
        with foreign_lock(store) as foreign:
            waiting = asyncio.create_task(writer.commit.submit("patient"))
            await asyncio.sleep(0)
            foreign.execute("COMMIT")
            await waiting

    asyncio.run(submit())
    assert counted(store) == ["patient"]


@in_time
def test_the_reader_of_a_lock_is_not_kept_waiting_by_items_queued_behind_it(store: Store, writer: Writer) -> None:
    """Items that come while a batch waits have a deadline of their own."""

    async def submit() -> list[float]:
        async def one(item: str) -> float:
            started = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await writer.commit.submit(item)
            return time.monotonic() - started

        with foreign_lock(store):
            first = asyncio.create_task(one("first"))
            await asyncio.wait({first}, timeout=TIMEOUT / 2)
            return await asyncio.gather(first, *(one(str(number)) for number in range(50)))

    for took in asyncio.run(submit()):
        assert TIMEOUT - 0.05 <= took <= TIMEOUT + LATITUDE
    assert counted(store) == []


def test_more_than_the_capacity_is_refused_at_once(store: Store, writer: Writer) -> None:
    async def submit() -> list[int | BaseException]:
        writer.go_on.clear()
        tasks = [asyncio.create_task(writer.commit.submit(str(number))) for number in range(CAPACITY)]
        await asyncio.sleep(0)
        refused = asyncio.create_task(writer.commit.submit("too many"))
        await asyncio.sleep(0)
        assert refused.done()
        with pytest.raises(StoreUnavailable):
            await refused
        writer.go_on.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(submit())
    assert len(counted(store)) == sum(isinstance(result, int) for result in results)
    assert "too many" not in counted(store)


@pytest.mark.parametrize(
    "failure", [RuntimeError("bug"), KeyError("bug"), UnicodeDecodeError("utf-8", b"x", 0, 1, "x")]
)
def test_a_decision_that_raises_is_an_internal_error_and_counts_nothing(
    store: Store, writer: Writer, failure: Exception
) -> None:
    writer.failure = failure
    (result,) = asyncio.run(gather(writer, ["lost"]))
    assert type(result) is GatewayError
    assert counted(store) == []
    writer.failure = None
    assert asyncio.run(gather(writer, ["next"])) == [1]


def test_a_broken_store_is_unavailable_and_recovers(store: Store, writer: Writer) -> None:
    with store.database.write():
        store.database.execute("ALTER TABLE counted RENAME TO elsewhere", ())
    (result,) = asyncio.run(gather(writer, ["lost"]))
    assert type(result) is StoreUnavailable
    with store.database.write():
        store.database.execute("ALTER TABLE elsewhere RENAME TO counted", ())
    assert asyncio.run(gather(writer, ["next"])) == [1]
    assert counted(store) == ["next"]


def test_a_caller_that_went_away_before_its_turn_is_not_counted(store: Store, writer: Writer) -> None:
    async def submit() -> None:
        writer.go_on.clear()
        first = asyncio.create_task(writer.commit.submit("first"))
        await asyncio.to_thread(writer.deciding.wait, 5)
        gone = asyncio.create_task(writer.commit.submit("gone"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait({gone})
        assert gone.cancelled()
        writer.go_on.set()
        await first
        await writer.commit.submit("last")

    asyncio.run(submit())
    assert counted(store) == ["first", "last"]


def test_a_caller_that_goes_away_in_its_turn_harms_nobody(store: Store, writer: Writer) -> None:
    async def submit() -> None:
        writer.go_on.clear()
        gone = asyncio.create_task(writer.commit.submit("gone"))
        await asyncio.to_thread(writer.deciding.wait, 5)
        gone.cancel()
        await asyncio.wait({gone})
        writer.go_on.set()
        await writer.commit.submit("last")

    asyncio.run(submit())
    assert counted(store) == ["gone", "last"]  # it was being counted already
    assert writer.unheard == [1]


def test_closing_commits_what_waits_and_refuses_what_comes_after(store: Store) -> None:
    writer = Writer(store)

    async def submit() -> list[int | BaseException]:
        tasks = [asyncio.create_task(writer.commit.submit(str(number))) for number in range(2 * BATCH + 1)]
        await asyncio.sleep(0)
        await asyncio.to_thread(writer.commit.close)
        writer.commit.close()  # again is no fault
        with pytest.raises(StoreUnavailable):
            await writer.commit.submit("late")
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(submit())
    assert all(isinstance(result, int) for result in results)
    assert len(counted(store)) == len(results)


def test_an_event_loop_that_ends_before_its_answer_harms_nobody(store: Store, writer: Writer) -> None:
    async def leave() -> None:
        writer.go_on.clear()
        asyncio.create_task(writer.commit.submit("left")).add_done_callback(lambda _: None)
        await asyncio.to_thread(writer.deciding.wait, 5)

    asyncio.run(leave())
    writer.go_on.set()
    assert asyncio.run(gather(writer, ["next"])) == [1]
    assert counted(store) == ["left", "next"]


STEPS = st.lists(
    st.one_of(
        st.just("submit"),
        st.just("refused"),
        st.just("lock"),
        st.just("unlock"),
        st.just("yield"),
        st.just("wait"),
        st.integers(0, 30),  # cancel the nth submission
    ),
    max_size=40,
)


@given(steps=STEPS)
@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_answers_and_counts_agree_in_any_interleaving(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str | int]
) -> None:
    with opened(make_settings(tmp_path_factory.mktemp("store"), store_timeout=0.06)) as store:
        make_table(store)
        writer = Writer(store)
        try:
            tasks, cancelled = asyncio.run(_interleave(store, writer, steps))
        finally:
            writer.commit.close()
        _require_agreement(counted(store), tasks, cancelled)


async def _interleave(
    store: Store, writer: Writer, steps: list[str | int]
) -> tuple[dict[str, int | BaseException], set[str]]:
    tasks: dict[str, asyncio.Task[int]] = {}
    cancelled: set[str] = set()
    locked = False
    with contextlib.ExitStack() as locks:
        for step in steps:
            match step:
                case "submit" | "refused":
                    name = "refused" if step == "refused" else f"item {len(tasks)}"
                    tasks[f"{len(tasks)} {name}"] = asyncio.create_task(writer.commit.submit(name))
                case "lock" if not locked:
                    locks.enter_context(foreign_lock(store))
                    locked = True
                case "unlock":
                    locks.close()
                    locked = False
                case "yield":
                    await asyncio.sleep(0)
                case "wait" if tasks:
                    await asyncio.wait(tasks.values(), timeout=0.01)
                case int() if step < len(tasks):
                    name = list(tasks)[step]
                    cancelled |= {name} if tasks[name].cancel() else set()
    results = await asyncio.gather(*tasks.values(), return_exceptions=True)
    return dict(zip(tasks, results, strict=True)), cancelled


def _require_agreement(items: list[str], results: dict[str, int | BaseException], cancelled: set[str]) -> None:
    assert len(items) == len(set(items))
    for name, result in results.items():
        item = name.partition(" ")[2]
        if isinstance(result, int):
            assert item in items
        elif name not in cancelled:
            assert isinstance(result, StoreUnavailable | QuotaExhausted)
            assert item not in items


def leave(writer: Writer, *notes: str) -> None:
    """Leave notes, with no item to go along with, until the writer has had its chance."""

    async def in_a_loop() -> None:
        for note in notes:
            writer.commit.leave(note)
        await asyncio.sleep(1.5 * NOTE_DELAY)

    asyncio.run(in_a_loop())


def noted(store: Store) -> list[str]:
    return [item for item in counted(store) if item.startswith("note")]


def test_notes_go_along_with_the_items_that_come_next_once_there_are_some(store: Store, writer: Writer) -> None:
    async def submit() -> None:
        for number in range(2 * FEW):
            writer.commit.leave(f"note {number}")
            await writer.commit.submit("item")

    asyncio.run(submit())
    wait_until(lambda: noted(store) == [f"note {number}" for number in range(2 * FEW)])
    assert len(writer.batches) == 2 * FEW
    assert max(writer.noted) >= FEW / 2  # fewer on a machine that is so slow that some are due


def test_a_note_does_not_wait_for_more_while_items_come_and_go(store: Store, writer: Writer) -> None:
    async def submit() -> None:
        writer.commit.leave("note alone")
        until = time.monotonic() + 50 * NOTE_DELAY
        while not noted(store) and time.monotonic() < until:
            await writer.commit.submit("item")

    asyncio.run(submit())
    assert noted(store) == ["note alone"]
    assert writer.noted == [1]


def test_notes_go_together_when_no_items_come(store: Store, writer: Writer) -> None:
    notes = [f"note {number}" for number in range(BATCH)]
    leave(writer, *notes)
    wait_until(lambda: len(noted(store)) == BATCH)
    assert noted(store) == notes
    assert len(writer.noted) <= 2
    assert writer.batches == []


def test_notes_are_kept_while_the_store_is_locked(store: Store, writer: Writer) -> None:
    with foreign_lock(store):
        leave(writer, "note kept")
    wait_until(lambda: noted(store) == ["note kept"])


def test_notes_that_cannot_be_recorded_hold_up_no_item_for_ever(store: Store, writer: Writer) -> None:
    with store.database.write():
        store.database.execute("ALTER TABLE counted RENAME TO elsewhere", ())
    leave(writer, "note kept")
    (result,) = asyncio.run(gather(writer, ["refused"]))
    assert isinstance(result, GatewayError)
    with store.database.write():
        store.database.execute("ALTER TABLE elsewhere RENAME TO counted", ())
    assert asyncio.run(gather(writer, ["next"])) == [1]
    wait_until(lambda: counted(store) == ["next", "note kept"])


def test_notes_that_fail_alone_cost_no_item_its_answer(store: Store, writer: Writer) -> None:
    writer.fails_to_record = True
    leave(writer, "note kept")
    for _ in range(3):
        assert asyncio.run(gather(writer, ["item"])) == [1]
    writer.fails_to_record = False
    wait_until(lambda: noted(store) == ["note kept"])
    assert counted(store) == ["item", "item", "item", "note kept"]


def test_of_too_many_notes_the_oldest_are_dropped_and_the_log_tells(
    store: Store, writer: Writer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notes, "CAPACITY", 3)
    writer.go_on.clear()

    async def submit() -> None:
        first = asyncio.create_task(writer.commit.submit("first"))
        await asyncio.to_thread(writer.deciding.wait, 5)
        for number in range(5):
            writer.commit.leave(f"note {number}")
        second = asyncio.create_task(writer.commit.submit("second"))
        await asyncio.sleep(0)
        writer.go_on.set()
        await asyncio.gather(first, second)

    asyncio.run(submit())
    wait_until(lambda: noted(store) == ["note 2", "note 3", "note 4"])
    assert [vars(record)["notes"] for record in caplog.records] == [2]


def test_closing_writes_the_notes_that_wait(store: Store) -> None:
    writer = Writer(store)
    notes = [f"note {number}" for number in range(3 * BATCH)]
    leave(writer, *notes)
    writer.commit.close()
    assert noted(store) == notes


@in_time
def test_closing_gives_notes_up_when_the_store_fails_for_too_long(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Writer(store)
    with foreign_lock(store):
        leave(writer, "note lost")
        writer.commit.close()
    assert noted(store) == []
    assert [vars(record)["notes"] for record in caplog.records] == [1]
