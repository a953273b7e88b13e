"""The headroom lets pass, and reserves, what the limits one by one would."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from store.admission.limits import Asked, Headroom, OwnHeadroom, left_of, limits_of, reserved
from store.admission.limits.limit import Reserving
from store.admission.limits.requests import MaxRequests
from store.clock import MINUTE
from store.limits.balance import Balance
from store.limits.bound import Bounds
from store.limits.window import Standing, Window
from store.request import Amounts, Opening

NOW = 20_000 * 24 * 60 * MINUTE
KINDS = ("usd/day", "usd/total", "tokens/minute", "tokens/hour")
OPENING = Opening("request", "POST", "/v1/chat/completions", "/v1/chat/completions", None)

numbers = st.integers(0, 30)
owned = st.dictionaries(st.sampled_from(KINDS), st.tuples(st.integers(1, 30), numbers, numbers), min_size=1)
bounds = st.builds(
    Bounds,
    numbers,
    numbers,
    st.integers(0, 3),
    st.none() | numbers,
    st.integers(1, 2),
)


def balance(owner: str, kind: str, maximum: int, used: int, held: int) -> Balance:
    made = Balance.begin(owner, kind, maximum, NOW)
    if isinstance(made.state, Window):
        made.state.add(used)
    elif made.state is not None:
        made.state.settled = used
    made.hold(held)
    return made


def one_by_one(limits: Sequence[Reserving], asked_for: Bounds) -> Amounts | None:
    amounts = reserved(asked_for, 8, left_of(limits))
    asked = Asked(OPENING, NOW, amounts)
    if any(limit.test(asked) for limit in limits):
        return None
    for limit in limits:
        limit.hit(asked)
    return amounts


@given(owned, owned, st.lists(bounds, max_size=6), st.integers(0, 6))
def test_headroom_reserves_what_the_limits_would(
    own: dict[str, tuple[int, int, int]],
    of_project: dict[str, tuple[int, int, int]],
    asked: list[Bounds],
    held_after: int,
) -> None:
    pairs = [
        [[balance(owner, kind, *state) for kind, state in limits.items()] for _ in range(2)]
        for owner, limits in (("token", own), ("project", of_project))
    ]
    (ours, theirs), (our_project, their_project) = pairs
    headroom = Headroom([OwnHeadroom(ours, NOW), OwnHeadroom(our_project, NOW)])
    found = limits_of(MaxRequests(0, 0), theirs, their_project, NOW)
    limits = [limit for limit in found if isinstance(limit, Reserving)]
    for number, one in enumerate(asked):
        amounts = headroom.reserve(one, 8)
        assert amounts == one_by_one(limits, one)
        if amounts is not None:
            headroom.take(amounts)
        if number == held_after:
            headroom.hold()
    headroom.hold()
    assert [one.row for one in (*ours, *our_project)] == [one.row for one in (*theirs, *their_project)]


def test_the_window_with_the_least_left_is_shown_after_what_was_taken() -> None:
    own = OwnHeadroom([balance("token", "tokens/hour", 100, 40, 0), balance("token", "tokens/minute", 60, 0, 10)], NOW)
    of_project = OwnHeadroom([balance("project", "usd/day", 5, 0, 0)], NOW)
    headroom = Headroom([own, of_project])
    assert headroom.standing == Standing(60, 50, 0, "tokens")
    headroom.take(Amounts(20, 3))
    assert headroom.standing == Standing(60, 30, 0, "tokens")
    headroom.hold()
    assert headroom.standing == Standing(60, 30, 0, "tokens")


def test_it_is_scarce_where_not_as_much_again_is_left_of_each_limit() -> None:
    own = OwnHeadroom([balance("token", "usd/day", 100, 10, 0), balance("token", "tokens/minute", 90, 0, 0)], NOW)
    headroom = Headroom([own, OwnHeadroom([balance("project", "usd/total", 60, 0, 0)], NOW)])
    scarce = []
    for amounts in (Amounts(30, 30), Amounts(30, 0), Amounts(15, 15), Amounts(15, 0), Amounts(0, 8), Amounts(0, 7)):
        assert headroom.reserve(Bounds(*amounts, 0, 0), 0) == amounts
        scarce.append(headroom.take(amounts))
    # left after each, of 90 tokens and 60 USD: 60 30, 30 30, 15 15, 0 15, 0 7, 0 0
    assert scarce == [False, False, False, True, True, True]


def test_after_the_clock_stepped_back_the_limits_are_asked() -> None:
    headroom = Headroom([OwnHeadroom([balance("token", "usd/day", 100, 0, 0)], NOW - 1)])
    assert headroom.reserve(Bounds(1, 1, 1, 5), 8) is None
