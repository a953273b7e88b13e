import asyncio
from collections.abc import Callable

import pytest

from store.admission.ticket import Ticket
from store.errors import QuotaExhausted, StoreUnavailable

type Step = Callable[[Ticket[str, int]], object]


def make_ticket(loop: asyncio.AbstractEventLoop) -> Ticket[str, int]:
    return Ticket("item", 0.0, loop.create_future())


@pytest.fixture
def ticket() -> Ticket[str, int]:
    loop = asyncio.new_event_loop()
    made = make_ticket(loop)
    loop.close()
    return made


def test_one_that_waits_is_taken_once(ticket: Ticket[str, int]) -> None:
    assert ticket.is_waiting
    assert (ticket.take(), ticket.take()) == (True, False)
    assert not ticket.is_waiting


def test_one_that_waits_is_ended_once_and_not_taken(ticket: Ticket[str, int]) -> None:
    assert (ticket.end(), ticket.end(), ticket.take()) == (True, False, False)


@pytest.mark.parametrize("wants", [Ticket.end, Ticket.leave])
def test_one_that_is_just_written_is_the_writers_alone(ticket: Ticket[str, int], wants: Step) -> None:
    ticket.take()
    assert wants(ticket) is False
    assert ticket.finish() is True


def test_one_that_was_put_back_can_be_taken_again(ticket: Ticket[str, int]) -> None:
    ticket.take()
    ticket.put_back()
    assert ticket.take() is True


def test_one_whose_caller_has_left_meanwhile_is_not_taken_another_time(ticket: Ticket[str, int]) -> None:
    ticket.take()
    ticket.leave()
    ticket.put_back()
    assert ticket.take() is False


def test_one_in_doubt_may_be_ended_and_the_writer_learns_of_it(ticket: Ticket[str, int]) -> None:
    ticket.take()
    ticket.doubt()
    assert (ticket.end(), ticket.finish()) == (True, False)


@pytest.mark.parametrize("decide", [Ticket.finish, lambda ticket: ticket.put_back() or ticket.take()])
def test_one_in_doubt_that_nobody_has_ended_is_still_the_writers(ticket: Ticket[str, int], decide: Step) -> None:
    ticket.take()
    ticket.doubt()
    assert decide(ticket) is True


def test_one_that_ended_in_doubt_is_not_put_back(ticket: Ticket[str, int]) -> None:
    ticket.take()
    ticket.doubt()
    ticket.end()
    ticket.put_back()
    assert ticket.take() is False


def test_its_caller_gets_the_first_outcome() -> None:
    async def settle() -> int:
        ticket = make_ticket(asyncio.get_running_loop())
        ticket.settle(1)
        ticket.settle(StoreUnavailable())
        return await ticket.future

    assert asyncio.run(settle()) == 1


def test_its_caller_gets_an_error_raised() -> None:
    async def settle() -> int:
        ticket = make_ticket(asyncio.get_running_loop())
        ticket.settle(QuotaExhausted())
        return await ticket.future

    with pytest.raises(QuotaExhausted):
        asyncio.run(settle())


def test_a_caller_that_has_gone_is_no_fault() -> None:
    async def settle() -> bool:
        ticket = make_ticket(asyncio.get_running_loop())
        ticket.future.cancel()
        ticket.settle(1)
        return ticket.future.cancelled()

    assert asyncio.run(settle())
