"""Requests that are settled together count as they would one by one."""

from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.stores.stores import on_sqlite

from store.clock import DAY
from store.limits import holds
from store.limits.balance import Balance
from store.limits.holds import Counted
from store.request import Amounts, Opened
from store.store import Store

NOON = 20_000 * DAY + DAY // 2
KINDS = ("usd/day", "usd/total", "tokens/minute")

pytestmark = on_sqlite

times = st.sampled_from([NOON - DAY, NOON - 1, NOON, NOON + DAY // 2 - 1, NOON + DAY])
amounts = st.builds(Amounts, st.integers(-5, 30), st.integers(-5, 30))
held = st.builds(Amounts, st.integers(0, 30), st.integers(0, 30))
settled = st.lists(st.tuples(times, amounts, held), max_size=5)


def balances() -> dict[str, Balance]:
    """Return full balances, one of which was set at noon."""
    made = [Balance.begin("token", kind, 10**6, NOON) for kind in KINDS]
    made.append(Balance.begin("project", "usd/day", 10**6, NOON, begun_at=NOON))
    for one in made:
        one.hold(1000)
    return {one.id: one for one in made}


def counted(entries: Sequence[tuple[int, Amounts, Amounts]]) -> list[Counted]:
    opened = Opened("request", 0, "project", "token", "/v1/chat/completions", is_counted=True)
    return [Counted(opened._replace(started_at=at), used, reserved) for at, used, reserved in entries]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(entries=settled)
def test_settled_together_they_count_as_one_by_one(store: Store, entries: list[tuple[int, Amounts, Amounts]]) -> None:
    together, single = balances(), balances()
    holds.settle(store.database, counted(entries), together)
    for each in counted(entries):
        holds.settle(store.database, [each], single)
    assert [one.row for one in together.values()] == [one.row for one in single.values()]
