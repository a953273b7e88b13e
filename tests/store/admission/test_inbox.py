import asyncio
import time
from collections.abc import Sequence

import pytest

from store.admission.inbox import Inbox
from store.admission.pending_request import PendingRequest, resolve_all
from store.admission.write_behind import WriteBehind
from store.errors import StoreUnavailable

TIMEOUT = 0.1
LATITUDE = 2.0  # for a busy machine


@pytest.fixture
def inbox() -> Inbox[str, int, str]:
    """An inbox without a writer."""
    return Inbox(TIMEOUT, WriteBehind(), lambda result: f"abandoned {result}")


def answer(requests: Sequence[PendingRequest[str, int]]) -> None:
    """Answer requests as the writer does."""
    for request in requests:
        assert request.begin(time.monotonic())
        assert request.finish()
    resolve_all(requests, [len(requests)] * len(requests))


async def refused_after(inbox: Inbox[str, int, str]) -> float:
    """Submit a request, and return the seconds until its deadline has refused it."""
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await inbox.submit("item")
    return time.monotonic() - started


def test_each_request_is_refused_at_its_own_deadline(inbox: Inbox[str, int, str]) -> None:
    async def submit() -> list[float]:
        waiting = []
        for _ in range(3):
            waiting.append(asyncio.create_task(refused_after(inbox)))
            await asyncio.sleep(TIMEOUT / 2)
        return await asyncio.gather(*waiting)

    for took in [*asyncio.run(submit()), *asyncio.run(submit())]:  # in another event loop too
        assert TIMEOUT <= took < TIMEOUT + LATITUDE


def test_request_behind_an_answered_one_is_refused_at_its_deadline(inbox: Inbox[str, int, str]) -> None:
    async def submit() -> tuple[int, float]:
        first = asyncio.create_task(inbox.submit("first"))
        await asyncio.sleep(TIMEOUT / 4)
        second = asyncio.create_task(refused_after(inbox))
        answer(inbox.collect(0))
        return await first, await second

    result, took = asyncio.run(submit())
    assert result == 1
    assert TIMEOUT <= took < TIMEOUT + LATITUDE


def test_deadline_that_passes_in_a_transaction_is_left_to_the_writer(inbox: Inbox[str, int, str]) -> None:
    async def submit() -> int:
        waiting = asyncio.create_task(inbox.submit("item"))
        await asyncio.sleep(TIMEOUT / 4)
        (request,) = inbox.collect(0)
        request.begin(time.monotonic())
        await asyncio.sleep(2 * TIMEOUT)
        assert not waiting.done()
        request.finish()
        resolve_all([request], [1])
        return await waiting

    assert asyncio.run(submit()) == 1


def test_caller_that_leaves_with_its_result_on_the_way_is_settled(inbox: Inbox[str, int, str]) -> None:
    async def submit() -> None:
        waiting = asyncio.create_task(inbox.submit("item"))
        await asyncio.sleep(TIMEOUT / 4)
        answer(inbox.collect(0))
        waiting.cancel()
        await asyncio.wait({waiting})
        await asyncio.sleep(0)
        assert waiting.cancelled()

    asyncio.run(submit())
    assert inbox.unwritten == 1


def test_requests_that_have_ended_are_forgotten(inbox: Inbox[str, int, str]) -> None:
    async def submit() -> list[int]:
        gone = asyncio.create_task(inbox.submit("gone"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait({gone})
        left = [len(inbox._unanswered)]  # noqa: SLF001 - nothing else shows what stays in memory
        await refused_after(inbox)
        return [*left, len(inbox._unanswered)]  # noqa: SLF001

    assert asyncio.run(submit()) == [0, 0]
