import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.gateway.processes import wait_until
from support.stores.stores import changed, foreign_lock, make_settings, opened

from store.admission import inbox, write_behind
from store.admission.inbox import BATCH, CAPACITY
from store.admission.write_behind import FEW, FLUSH_DELAY
from store.admission.writer import Writer
from store.errors import GatewayError, OutcomeUnknown, QuotaExhausted, StoreUnavailable
from store.runtime.settings import Settings
from store.store import Store

PATIENT = 30.0  # seconds, for tests that are not about time: long enough for a busy machine
TIMEOUT = 0.4
LATITUDE = 2.0  # for a busy machine; the lock itself is held for as long as the answers take

in_time = pytest.mark.parametrize("store", [TIMEOUT], indirect=True)


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


class Work:
    """Work that counts items in a table, with its writer, and can be held up or made to fail."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.batches: list[int] = []
        self.recorded: list[int] = []
        self.fails_to_record = False
        self.deciding = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.failure: BaseException | None = None
        self.settles_abandoned = False
        self.writer: Writer[str, int, str] = Writer(store.database, self)
        self.submit = self.writer.inbox.submit
        self.enqueue = self.writer.inbox.enqueue

    def compensate(self, results: Sequence[int]) -> None:
        for result in results:
            count(self.store, f"compensated {result}")

    def abandoned(self, result: int) -> str | None:
        return f"abandoned {result}" if self.settles_abandoned else None

    def record(self, entries: Sequence[str]) -> None:
        if self.fails_to_record:
            self.store.database.execute("INSERT INTO elsewhere VALUES (1)", ())
        self.recorded.append(len(entries))
        for entry in entries:
            count(self.store, entry)

    record_each = record

    def finish(self) -> None:
        """Nothing is left to do."""

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
def work(store: Store) -> Iterator[Work]:
    work = Work(store)
    yield work
    work.go_on.set()
    work.writer.close()


async def gather(work: Work, items: Sequence[str]) -> list[int | BaseException]:
    return await asyncio.gather(*(work.submit(item) for item in items), return_exceptions=True)


def test_each_request_gets_its_own_result(store: Store, work: Work) -> None:
    results = asyncio.run(gather(work, ["a", "refused", "b"]))
    assert isinstance(results[1], QuotaExhausted)
    assert isinstance(results[0], int)
    assert isinstance(results[2], int)
    assert counted(store) == ["a", "b"]


def test_waiting_requests_share_a_transaction_in_the_order_of_arrival(store: Store, work: Work) -> None:
    items = [str(number) for number in range(2 * BATCH)]
    work.go_on.clear()

    async def submit() -> None:
        first = asyncio.create_task(work.submit("first"))
        await asyncio.to_thread(work.deciding.wait, 5)
        others = [asyncio.create_task(work.submit(item)) for item in items]
        await asyncio.sleep(0)
        work.go_on.set()
        await asyncio.gather(first, *others)

    asyncio.run(submit())
    assert work.batches == [1, BATCH, BATCH]
    assert counted(store) == ["first", *items]


@in_time
def test_foreign_lock_refuses_all_requests_in_time_and_counts_nothing(store: Store, work: Work) -> None:
    async def submit() -> tuple[float, list[int | BaseException]]:
        started = time.monotonic()
        results = await gather(work, [str(number) for number in range(2 * BATCH)])
        return time.monotonic() - started, results

    async def locked_then_free() -> float:
        with foreign_lock(store):
            took, results = await submit()
        assert {type(result) for result in results} == {StoreUnavailable}
        assert TIMEOUT - 0.05 <= took <= TIMEOUT + LATITUDE
        started = time.monotonic()
        await work.submit("after")
        return time.monotonic() - started

    assert asyncio.run(locked_then_free()) < LATITUDE
    assert counted(store) == ["after"]


def test_lock_that_ends_in_time_is_waited_for(store: Store, work: Work) -> None:
    async def submit() -> None:
        with foreign_lock(store) as foreign:
            waiting = asyncio.create_task(work.submit("patient"))
            await asyncio.sleep(0)
            foreign.execute("COMMIT")
            await waiting

    asyncio.run(submit())
    assert counted(store) == ["patient"]


@in_time
def test_requests_queued_behind_a_locked_batch_have_deadlines_of_their_own(store: Store, work: Work) -> None:
    async def submit() -> list[float]:
        async def one(item: str) -> float:
            started = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await work.submit(item)
            return time.monotonic() - started

        with foreign_lock(store):
            first = asyncio.create_task(one("first"))
            await asyncio.wait({first}, timeout=TIMEOUT / 2)
            return await asyncio.gather(first, *(one(str(number)) for number in range(50)))

    for took in asyncio.run(submit()):
        assert TIMEOUT - 0.05 <= took <= TIMEOUT + LATITUDE
    assert counted(store) == []


def test_requests_beyond_the_capacity_are_refused_at_once(store: Store, work: Work) -> None:
    async def submit() -> list[int | BaseException]:
        work.go_on.clear()
        tasks = [asyncio.create_task(work.submit(str(number))) for number in range(CAPACITY)]
        await asyncio.sleep(0)
        refused = asyncio.create_task(work.submit("too many"))
        await asyncio.sleep(0)
        assert refused.done()
        with pytest.raises(StoreUnavailable):
            await refused
        work.go_on.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(submit())
    assert len(counted(store)) == sum(isinstance(result, int) for result in results)
    assert "too many" not in counted(store)


@pytest.mark.parametrize(
    "failure", [RuntimeError("bug"), KeyError("bug"), UnicodeDecodeError("utf-8", b"x", 0, 1, "x")]
)
def test_decision_that_raises_is_an_internal_error_and_counts_nothing(
    store: Store, work: Work, failure: Exception
) -> None:
    work.failure = failure
    (result,) = asyncio.run(gather(work, ["lost"]))
    assert type(result) is GatewayError
    assert counted(store) == []
    work.failure = None
    assert asyncio.run(gather(work, ["next"])) == [1]


def test_broken_store_is_unavailable_and_recovers(store: Store, work: Work) -> None:
    with store.database.write():
        store.database.execute("ALTER TABLE counted RENAME TO elsewhere", ())
    (result,) = asyncio.run(gather(work, ["lost"]))
    assert type(result) is StoreUnavailable
    with store.database.write():
        store.database.execute("ALTER TABLE elsewhere RENAME TO counted", ())
    assert asyncio.run(gather(work, ["next"])) == [1]
    assert counted(store) == ["next"]


def test_caller_that_leaves_before_its_transaction_is_not_counted(store: Store, work: Work) -> None:
    async def submit() -> None:
        work.go_on.clear()
        first = asyncio.create_task(work.submit("first"))
        await asyncio.to_thread(work.deciding.wait, 5)
        gone = asyncio.create_task(work.submit("gone"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait({gone})
        assert gone.cancelled()
        work.go_on.set()
        await first
        await work.submit("last")

    asyncio.run(submit())
    assert counted(store) == ["first", "last"]


def test_caller_that_leaves_during_its_transaction_is_settled_as_abandoned(store: Store, work: Work) -> None:
    work.settles_abandoned = True

    async def submit() -> None:
        work.go_on.clear()
        gone = asyncio.create_task(work.submit("gone"))
        await asyncio.to_thread(work.deciding.wait, 5)
        gone.cancel()
        await asyncio.wait({gone})
        work.go_on.set()
        await work.submit("last")
        await asyncio.sleep(1.5 * FLUSH_DELAY)

    asyncio.run(submit())
    wait_until(lambda: set(counted(store)) == {"gone", "last", "abandoned 1"})  # it was being counted already


def test_close_commits_waiting_requests_and_refuses_later_ones(store: Store) -> None:
    work = Work(store)

    async def submit() -> list[int | BaseException]:
        tasks = [asyncio.create_task(work.submit(str(number))) for number in range(2 * BATCH + 1)]
        await asyncio.sleep(0)
        await asyncio.to_thread(work.writer.close)
        work.writer.close()  # again is no fault
        with pytest.raises(StoreUnavailable):
            await work.submit("late")
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(submit())
    assert all(isinstance(result, int) for result in results)
    assert len(counted(store)) == len(results)


def test_event_loop_that_ends_before_its_answer_does_not_stop_the_writer(store: Store, work: Work) -> None:
    async def leave() -> None:
        work.go_on.clear()
        asyncio.create_task(work.submit("left")).add_done_callback(lambda _: None)
        await asyncio.to_thread(work.deciding.wait, 5)

    asyncio.run(leave())
    work.go_on.set()
    assert asyncio.run(gather(work, ["next"])) == [1]
    assert counted(store) == ["left", "next"]


@contextlib.contextmanager
def commits_in_doubt(store: Store, monkeypatch: pytest.MonkeyPatch, *, seconds: float, known: bool) -> Iterator[None]:
    """Make the lookup of the outcome of each COMMIT with requests take some seconds, and succeed or fail."""
    write = store.database.write

    @contextlib.contextmanager
    def in_doubt_write(*, in_doubt: Callable[[], None] | None = None, **options: Any) -> Iterator[None]:
        with write(**options):
            yield
        if in_doubt and options["deadline"] is not None:
            in_doubt()
            time.sleep(seconds)
            if not known:
                raise OutcomeUnknown

    with monkeypatch.context() as patch:
        patch.setattr(store.database, "write", in_doubt_write)
        yield


def test_requests_of_unknown_outcome_are_refused_and_compensated(
    store: Store, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    with commits_in_doubt(store, monkeypatch, seconds=0, known=False):
        outcomes = asyncio.run(gather(work, ["a", "refused", "b"]))
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable, QuotaExhausted, StoreUnavailable]
    wait_until(lambda: counted(store) == ["a", "b", "compensated 3", "compensated 3"])


@in_time
def test_requests_refused_by_their_deadlines_in_doubt_are_compensated(
    store: Store, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = time.monotonic()
    with commits_in_doubt(store, monkeypatch, seconds=3 * TIMEOUT, known=True):
        (outcome,) = asyncio.run(gather(work, ["late"]))
    assert time.monotonic() - started >= TIMEOUT - 0.05
    assert type(outcome) is StoreUnavailable
    wait_until(lambda: counted(store) == ["late", "compensated 1"])


def test_requests_in_doubt_for_a_moment_are_answered(store: Store, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    with commits_in_doubt(store, monkeypatch, seconds=0.05, known=True):
        assert asyncio.run(gather(work, ["a", "b"])) == [2, 2]
    assert counted(store) == ["a", "b"]


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
        work = Work(store)
        try:
            tasks, cancelled = asyncio.run(_interleave(store, work, steps))
        finally:
            work.writer.close()
        _require_agreement(counted(store), tasks, cancelled)


async def _interleave(
    store: Store, work: Work, steps: list[str | int]
) -> tuple[dict[str, int | BaseException], set[str]]:
    tasks: dict[str, asyncio.Task[int]] = {}
    cancelled: set[str] = set()
    locked = False
    with contextlib.ExitStack() as locks:
        for step in steps:
            match step:
                case "submit" | "refused":
                    name = "refused" if step == "refused" else f"item {len(tasks)}"
                    tasks[f"{len(tasks)} {name}"] = asyncio.create_task(work.submit(name))
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


def enqueue(work: Work, *entries: str) -> None:
    """Enqueue entries without any requests, and wait until the writer has had the time to write them."""

    async def in_a_loop() -> None:
        for entry in entries:
            work.enqueue(entry)
        await asyncio.sleep(1.5 * FLUSH_DELAY)

    asyncio.run(in_a_loop())


def recorded(store: Store) -> list[str]:
    return [item for item in counted(store) if item.startswith("entry")]


def test_entries_are_written_with_the_next_requests_once_there_are_some(
    store: Store, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (write_behind, inbox):
        monkeypatch.setattr(module, "FLUSH_DELAY", PATIENT)  # none is due before

    async def submit() -> None:
        for number in range(2 * FEW):
            work.enqueue(f"entry {number}")
            await work.submit("item")

    asyncio.run(submit())
    assert recorded(store) == [f"entry {number}" for number in range(2 * FEW)]
    assert len(work.batches) == 2 * FEW
    assert work.recorded == [FEW, FEW]


def test_single_entry_does_not_wait_for_more_while_requests_come_and_go(store: Store, work: Work) -> None:
    async def submit() -> None:
        work.enqueue("entry alone")
        until = time.monotonic() + 50 * FLUSH_DELAY
        while not recorded(store) and time.monotonic() < until:
            await work.submit("item")

    asyncio.run(submit())
    assert recorded(store) == ["entry alone"]
    assert work.recorded == [1]


def test_entries_are_written_together_when_no_requests_come(store: Store, work: Work) -> None:
    entries = [f"entry {number}" for number in range(BATCH)]
    enqueue(work, *entries)
    wait_until(lambda: len(recorded(store)) == BATCH)
    assert recorded(store) == entries
    assert len(work.recorded) <= 2
    assert work.batches == []


def test_entries_are_kept_while_the_store_is_locked(store: Store, work: Work) -> None:
    with foreign_lock(store):
        enqueue(work, "entry kept")
    wait_until(lambda: recorded(store) == ["entry kept"])


def test_entries_that_cannot_be_written_do_not_hold_up_requests_for_ever(store: Store, work: Work) -> None:
    with store.database.write():
        store.database.execute("ALTER TABLE counted RENAME TO elsewhere", ())
    enqueue(work, "entry kept")
    (result,) = asyncio.run(gather(work, ["refused"]))
    assert isinstance(result, GatewayError)
    with store.database.write():
        store.database.execute("ALTER TABLE elsewhere RENAME TO counted", ())
    assert asyncio.run(gather(work, ["next"])) == [1]
    wait_until(lambda: counted(store) == ["next", "entry kept"])


def test_entries_that_fail_do_not_fail_requests(store: Store, work: Work) -> None:
    work.fails_to_record = True
    enqueue(work, "entry kept")
    for _ in range(3):
        assert asyncio.run(gather(work, ["item"])) == [1]
    work.fails_to_record = False
    wait_until(lambda: recorded(store) == ["entry kept"])
    assert counted(store) == ["item", "item", "item", "entry kept"]


def test_beyond_the_capacity_the_oldest_entries_are_dropped_and_logged(
    store: Store, work: Work, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(write_behind, "CAPACITY", 3)
    work.go_on.clear()

    async def submit() -> None:
        first = asyncio.create_task(work.submit("first"))
        await asyncio.to_thread(work.deciding.wait, 5)
        for number in range(5):
            work.enqueue(f"entry {number}")
        second = asyncio.create_task(work.submit("second"))
        await asyncio.sleep(0)
        work.go_on.set()
        await asyncio.gather(first, second)

    asyncio.run(submit())
    wait_until(lambda: recorded(store) == ["entry 2", "entry 3", "entry 4"])
    assert [vars(record)["entries"] for record in caplog.records] == [2]


def test_close_writes_waiting_entries(store: Store) -> None:
    work = Work(store)
    entries = [f"entry {number}" for number in range(3 * BATCH)]
    enqueue(work, *entries)
    work.writer.close()
    assert recorded(store) == entries


@in_time
def test_close_gives_entries_up_when_the_store_fails_for_too_long(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    work = Work(store)
    with foreign_lock(store):
        enqueue(work, "entry lost")
        work.writer.close()
    assert recorded(store) == []
    assert [vars(record)["entries"] for record in caplog.records] == [1]


@pytest.mark.parametrize("store", [TIMEOUT], indirect=True)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_request_is_answered_at_its_deadline_if_the_writer_dies(store: Store) -> None:
    work = Work(store)
    work.failure = KeyboardInterrupt("the thread ends")
    started = time.monotonic()
    (result,) = asyncio.run(gather(work, ["a"]))
    assert isinstance(result, StoreUnavailable)
    assert TIMEOUT <= time.monotonic() - started < TIMEOUT + LATITUDE
    assert counted(store) == []
    work.writer.close()
