import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest
from support.stores.stores import API_KEY, changed, foreign_lock, on_postgresql, opened

from store.database.transactions import transact
from store.errors import NotFound, StoreLocked
from store.management.projects import Projects
from store.runtime.settings import Settings
from store.store import Store


@on_postgresql
def test_both_of_two_transactions_that_deadlock_are_committed_in_the_end(store: Store) -> None:
    ids = [Projects(store).create("", API_KEY).id for _ in range(2)]
    both_hold_one = threading.Barrier(2)

    def rename(first: str, second: str) -> None:
        rename = "UPDATE project SET name = name || 'x' WHERE id = ?"
        store.database.run("SET LOCAL deadlock_timeout = '20ms'")
        store.database.run(rename, [first])
        with contextlib.suppress(threading.BrokenBarrierError):
            both_hold_one.wait(2)
        both_hold_one.abort()  # a second try comes alone
        store.database.run(rename, [second])

    def work(order: list[str]) -> None:
        transact(store.database, lambda: rename(*order))
        store.database.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (ids, ids[::-1])))
    assert [project.name for project in Projects(store).list()] == ["xx", "xx"]


def test_a_lock_that_stays_raises_store_locked_after_the_timeout(settings: Settings) -> None:
    with opened(changed(settings, store_timeout=0.4)) as store:
        with foreign_lock(store):
            started = time.monotonic()
            with pytest.raises(StoreLocked):
                Projects(store).create("Never", API_KEY)
            assert 0.4 <= time.monotonic() - started < 2
        assert Projects(store).list() == []


def test_any_other_error_is_raised_without_a_second_try(store: Store) -> None:
    tries = []

    def fail() -> NoReturn:
        tries.append(1)
        raise NotFound("on purpose")

    with pytest.raises(NotFound, match="on purpose"):
        transact(store.database, fail)
    assert len(tries) == 1
