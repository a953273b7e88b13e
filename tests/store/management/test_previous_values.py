import pytest
from support.stores.store_clock import StoreClock
from support.stores.stores import make_token, set_columns

from store.clock import DAY, NEVER, SECOND
from store.database.models import Token
from store.management import previous_values
from store.store import Store

NOW = 1_800_000_000 * SECOND
EXPIRY = NOW + DAY


@pytest.mark.parametrize(
    ("now", "grace_seconds", "expires_at", "end"),
    [
        (NOW, 0, EXPIRY, None),
        (NOW, 1, EXPIRY, NOW + SECOND),
        (NOW + 1, 1, EXPIRY, NOW + 2 * SECOND),
        (NOW - 1, 1, EXPIRY, NOW + SECOND),
        (NOW, 86_399, EXPIRY, EXPIRY - SECOND),
        (NOW, 86_400, EXPIRY, EXPIRY),
        (NOW + 1, 86_400, EXPIRY, EXPIRY),
        (EXPIRY - 1, 2_592_000, EXPIRY, EXPIRY),
        (NOW, 2_592_000, NEVER, NOW + 30 * DAY),
        (NEVER - 1, 2_592_000, NEVER, NEVER),
    ],
)
def test_a_grace_is_rounded_up_and_ends_with_the_token(
    now: int, grace_seconds: int, expires_at: int, end: int | None
) -> None:
    assert previous_values.end(now, grace_seconds, expires_at) == end


@pytest.mark.parametrize(
    ("previous_expires_at", "now", "until"),
    [
        (None, NOW, None),
        (NOW, NOW - 1, NOW),
        (NOW, NOW, None),
        (EXPIRY + SECOND, EXPIRY - 1, EXPIRY),
        (EXPIRY + SECOND, EXPIRY, None),
    ],
)
def test_a_previous_value_works_until_it_or_its_token_ends(
    previous_expires_at: int | None, now: int, until: int | None
) -> None:
    assert previous_values.working_until(previous_expires_at, EXPIRY, now) == until


def test_ends_are_those_of_values_that_work_by_the_clock_of_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_clock = StoreClock(monkeypatch)
    never, short, long = (make_token(store, expires_in_days=0) for _ in range(3))
    set_columns(store, "token", short.id, previous_lookup="a", previous_expires_at=NOW)
    set_columns(store, "token", long.id, previous_lookup="b", previous_expires_at=NOW + SECOND)
    for now, ends in [
        (NOW - 1, {short.id: NOW, long.id: NOW + SECOND}),
        (NOW, {long.id: NOW + SECOND}),
        (NOW + SECOND, {}),
    ]:
        store_clock.set(now)
        with store.database.read():
            assert previous_values.ends(store.database, [*Token.select()]) == ends
    assert previous_values.ends(store.database, []) == {}
    assert never.previous_expires_at is None
