import asyncio
from collections.abc import Callable, Iterator, Sequence

import pytest

from store.admission.pending_request import PendingRequest, refuse_all, resolve_all
from store.errors import GatewayError, QuotaExhausted, StoreUnavailable

TIMEOUT = 1000.0  # seconds: few tests let a deadline pass

SETTLED: list[int] = []

type Request = PendingRequest[str, int]
type Step = Callable[[Request], object]


def begun(request: Request) -> bool:
    return request.begin(request.deadline - 1)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def request_(loop: asyncio.AbstractEventLoop) -> Request:
    SETTLED.clear()
    return PendingRequest("item", TIMEOUT, loop, SETTLED.append)


def refusal_of(request: Request) -> type | None:
    return type(request.future.exception()) if request.future.done() else None


def test_waiting_request_begins_once(request_: Request) -> None:
    assert request_.may_begin(request_.deadline - 1)
    assert (begun(request_), begun(request_)) == (True, False)
    assert not request_.may_begin(request_.deadline - 1)


def test_waiting_request_ends_once_and_does_not_begin(request_: Request) -> None:
    assert (request_.end(), request_.end(), begun(request_)) == (True, False, False)


def test_late_request_does_not_begin(request_: Request) -> None:
    assert not request_.may_begin(request_.deadline)
    assert not request_.begin(request_.deadline)
    assert begun(request_)


@pytest.mark.parametrize("wants", [PendingRequest.end, PendingRequest.abandon])
def test_only_the_writer_ends_a_request_in_flight(request_: Request, wants: Step) -> None:
    begun(request_)
    assert not wants(request_)
    assert request_.finish() is True


def test_released_request_begins_again(request_: Request) -> None:
    begun(request_)
    assert request_.release() is False
    assert begun(request_) is True


def test_abandoned_request_does_not_begin_again(request_: Request) -> None:
    begun(request_)
    request_.abandon()
    assert (request_.release(), begun(request_)) == (False, False)


def test_expired_request_is_refused(request_: Request) -> None:
    request_.expire()
    assert refusal_of(request_) is StoreUnavailable
    assert not begun(request_)


def test_request_that_expires_in_flight_is_answered_by_the_writer(request_: Request) -> None:
    begun(request_)
    request_.expire()
    assert refusal_of(request_) is None
    assert request_.finish() is True


@pytest.mark.parametrize("step", [PendingRequest.release, PendingRequest.doubt])
def test_request_that_expired_in_flight_is_refused_once_its_transaction_is_over(request_: Request, step: Step) -> None:
    begun(request_)
    request_.expire()
    assert step(request_) is True
    assert (request_.finish(), begun(request_)) == (False, False)


def test_request_in_doubt_is_ended_by_its_deadline_and_the_writer_learns_of_it(request_: Request) -> None:
    begun(request_)
    assert request_.doubt() is False
    request_.expire()
    assert refusal_of(request_) is StoreUnavailable
    assert request_.finish() is False


def test_request_in_doubt_is_ended_by_its_caller_and_the_writer_learns_of_it(request_: Request) -> None:
    begun(request_)
    request_.doubt()
    request_.abandon()
    assert request_.finish() is False


@pytest.mark.parametrize("decide", [PendingRequest.finish, lambda request: request.release() or begun(request)])
def test_request_in_doubt_that_has_not_ended_is_still_the_writers(request_: Request, decide: Step) -> None:
    begun(request_)
    request_.doubt()
    assert decide(request_) is True


def test_request_that_ended_in_doubt_does_not_begin_again(request_: Request) -> None:
    begun(request_)
    request_.doubt()
    request_.end()
    assert request_.release() is False
    assert not begun(request_)


def test_caller_gets_the_first_outcome(request_: Request) -> None:
    request_.resolve(1)
    request_.resolve(StoreUnavailable())
    assert request_.future.result() == 1


def test_caller_gets_an_error_raised(request_: Request) -> None:
    request_.resolve(QuotaExhausted())
    with pytest.raises(QuotaExhausted):
        request_.future.result()


def test_cancelled_caller_is_not_resolved(request_: Request) -> None:
    request_.future.cancel()
    request_.resolve(1)
    assert request_.future.cancelled()


def cancel(request: Request) -> None:
    request.future.cancel()


LEAVING: list[list[Step]] = [
    [cancel, PendingRequest.abandon, lambda request: request.resolve(1)],
    [cancel, lambda request: request.resolve(1), PendingRequest.abandon],
    [lambda request: request.resolve(1), cancel, PendingRequest.abandon],  # it has its outcome, and has not run yet
]
"""The orders in which a caller may be cancelled, and learn of it, and its result may come."""


@pytest.mark.parametrize("steps", LEAVING)
def test_result_of_a_caller_that_has_gone_is_settled_once(request_: Request, steps: Sequence[Step]) -> None:
    begun(request_)
    request_.finish()
    for step in steps:
        step(request_)
    assert SETTLED == [1]


@pytest.mark.parametrize("error", [QuotaExhausted(), StoreUnavailable()])
def test_error_of_a_caller_that_has_gone_is_not_settled(request_: Request, error: GatewayError) -> None:
    begun(request_)
    request_.resolve(error)
    request_.abandon()
    request_.future.cancel()
    request_.resolve(error)
    assert SETTLED == []


def test_result_of_a_caller_that_waits_is_not_settled(request_: Request) -> None:
    request_.resolve(1)
    assert SETTLED == []


def test_requests_of_a_batch_are_resolved_in_their_event_loop() -> None:
    async def resolve() -> list[int | BaseException]:
        loop = asyncio.get_running_loop()
        requests = [PendingRequest[str, int]("item", TIMEOUT, loop, SETTLED.append) for _ in range(3)]
        outcomes: list[int | GatewayError] = [1, QuotaExhausted()]
        await asyncio.to_thread(lambda: resolve_all(requests[:2], outcomes))
        await asyncio.to_thread(lambda: refuse_all(requests[2:], StoreUnavailable()))
        return await asyncio.gather(*(request.future for request in requests), return_exceptions=True)

    first, second, third = asyncio.run(resolve())
    assert (first, type(second), type(third)) == (1, QuotaExhausted, StoreUnavailable)


def test_requests_of_an_ended_event_loop_are_left_alone(request_: Request, loop: asyncio.AbstractEventLoop) -> None:
    loop.close()
    resolve_all([request_], [1])
    resolve_all([], [])
    assert not request_.future.done()
