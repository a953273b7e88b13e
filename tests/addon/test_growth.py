import asyncio
import json
from collections.abc import Callable, Iterator

import pytest
from support.stores.limits import standing
from support.stores.stores import admission_of, make_settings, make_token, opened, opening

from addon.exchange import Exchange
from addon.growth import STEP, Growth, growth_of
from addon.metering.meter import Meter
from store.admission.admission import Admission
from store.errors import GatewayError
from store.management.tokens import TokenRecord
from store.request import Demand, Reading
from store.store import Store

READING = Reading(("gpt-4o-mini",), demand=Demand(10, None))


@pytest.fixture
def store(tmp_path: object) -> Iterator[Store]:
    with opened(make_settings(tmp_path)) as store:  # type: ignore[arg-type]
        yield store


def unexpected(error: GatewayError) -> None:
    """Fail: nothing is to be cut."""
    raise AssertionError(error)


async def begin(
    admission: Admission, token: TokenRecord, cut: Callable[[GatewayError], None] = unexpected
) -> tuple[Exchange, Growth]:
    """Admit a streamed chat without a bound of its own."""
    admitted = await admission.admit(token.value, opening()._replace(reading=READING))
    exchange = Exchange()
    exchange.opened, exchange.meter = admitted.opened, Meter("POST", "/v1/chat/completions", None)
    growth = growth_of(admission, exchange, admitted.bounds, admitted.opened.reserved)
    exchange.meter.begin_answer(200, "text/event-stream", "")
    assert growth is not None
    growth.cut = cut
    return exchange, growth


def say(exchange: Exchange, words: int) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "word " * words}}]}
    assert exchange.meter is not None
    exchange.meter.feed_answer(b"data: %b\n\n" % json.dumps(chunk).encode())


async def grown(growth: Growth) -> None:
    growth.watch()
    assert growth._task is not None  # noqa: SLF001 - it is awaited instead of a pause
    await growth._task  # noqa: SLF001


def test_a_response_that_outgrows_its_reservation_reserves_more(store: Store) -> None:
    token = make_token(store, rate_limits=[{"tokens": 100_000, "per": "minute"}])

    async def main() -> None:
        with admission_of(store, usual_output=100) as admission:
            exchange, growth = await begin(admission, token)
            say(exchange, 10)
            growth.watch()
            assert exchange.opened is not None
            assert exchange.opened.reserved.tokens == 110
            say(exchange, 300)
            await grown(growth)
            assert exchange.opened.reserved.tokens == 110 + STEP
            assert standing(store, token.id, "tokens/minute") == (0, 110 + STEP)
            growth.watch()
            assert growth._task is None  # noqa: SLF001 - there is enough

    asyncio.run(main())


def test_more_is_reserved_before_the_reservation_is_used_up(store: Store) -> None:
    token = make_token(store, rate_limits=[{"tokens": 100_000, "per": "minute"}])

    async def main() -> None:
        with admission_of(store, usual_output=100) as admission:
            exchange, growth = await begin(admission, token)
            say(exchange, 60)
            await grown(growth)
            assert standing(store, token.id, "tokens/minute") == (0, 110 + STEP)

    asyncio.run(main())


def test_a_response_gets_no_more_than_is_left_and_is_cut_when_it_shows_more(store: Store) -> None:
    token = make_token(store, rate_limits=[{"tokens": 500, "per": "minute"}])
    cuts: list[GatewayError] = []

    async def main() -> None:
        with admission_of(store, usual_output=100) as admission:
            exchange, growth = await begin(admission, token, cuts.append)
            say(exchange, 100)
            await grown(growth)
            assert standing(store, token.id, "tokens/minute") == (0, 500)
            with pytest.raises(Exception, match="500 are reserved for running requests"):
                await admission.admit(token.value, opening()._replace(reading=READING))
            growth.watch()
            assert growth._task is None  # noqa: SLF001 - it asks no more
            assert not cuts
            say(exchange, 400)
            growth.watch()
            assert [error.code for error in cuts] == ["insufficient_quota"]

    asyncio.run(main())


def test_a_response_that_has_shown_too_much_while_it_asked_is_cut_at_once(store: Store) -> None:
    token = make_token(store, rate_limits=[{"tokens": 500, "per": "minute"}])
    cuts: list[GatewayError] = []

    async def main() -> None:
        with admission_of(store, usual_output=100) as admission:
            exchange, growth = await begin(admission, token, cuts.append)
            say(exchange, 1000)
            await grown(growth)
            assert [error.code for error in cuts] == ["insufficient_quota"]

    asyncio.run(main())
