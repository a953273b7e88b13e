"""The rules, without a database."""

from dataclasses import replace

import pytest
from support.stores.stores import opening

from store import clock
from store.admission.decision import Admitted, Batch, BoundsOf, Claim, TokenName, TokenRow, TokenState
from store.admission.limits import Asked, Headroom, Limit, MaxRequests, OwnHeadroom, limits_of
from store.admission.locked_tokens import state_of
from store.encryption.crypto import DecryptionError
from store.errors import (
    EndpointNotAllowed,
    GatewayError,
    InvalidToken,
    ProjectInactive,
    QuotaExhausted,
    TokenExpired,
    TokenInactive,
    TokenRefused,
    TooManyParallel,
)
from store.limits.balance import Balance
from store.limits.bound import Bounds
from store.limits.holds import Slot
from store.limits.window import Standing
from store.request import Amounts, Demand, Holder, Opened, Opening, Reading, Refused

NOW = 1000
NAME = TokenName("id", "token")
ROW = TokenRow("token", "lookup", "Ann's", True, NOW + 1, 0, 0, "project", "Search", True, b"sealed")


class Fake(Limit):
    """A limit that refuses, or counts."""

    def __init__(self, refuses: type[TokenRefused] | None = None) -> None:
        self.refuses = refuses
        self.hits: list[str] = []

    def test(self, asked: Asked) -> TokenRefused | None:
        del asked
        return self.refuses() if self.refuses else None

    def hit(self, asked: Asked) -> None:
        self.hits.append(asked.opening.request_id)


class Keys:
    """Decrypts keys, and counts how often."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.opened: list[str] = []

    def open(self, project_id: str, sealed: bytes) -> str:
        self.opened.append(project_id)
        if self.fails:
            raise DecryptionError
        return f"key of {project_id}, {sealed.decode()}"


def batch(row: TokenRow = ROW, *limits: Limit, keys: Keys | None = None, bounds: BoundsOf | None = None) -> Batch:
    return Batch({NAME: TokenState(row, limits)}, NOW, (keys or Keys()).open, bounds or unasked, 4096)


def unasked(row: TokenRow, opening: Opening, has_budget: bool) -> Bounds:
    """Fail: nothing is bounded for a token whose limits reserve nothing."""
    raise AssertionError(row, opening, has_budget)


def claim(*, is_paid: bool = False, is_reserved: bool = False) -> Claim:
    return Claim(NAME, opening(is_reserved=is_reserved), is_paid)


def test_admitted_claim_gets_its_row_its_holder_and_the_key() -> None:
    made, asked = batch(ROW, MaxRequests(0, 1)), claim()
    opened = Opened(asked.opening.request_id, NOW, "project", "token", asked.opening.endpoint)
    holder = Holder("token", "Ann's", "project", "Search")
    assert made.decide(asked) == Admitted(opened, holder, "key of project, sealed")
    assert made.admitted == [(asked.opening, opened)]


def test_unknown_token_is_invalid() -> None:
    assert type(batch().decide(replace(claim(), name=TokenName("lookup", "token")))) is InvalidToken


@pytest.mark.parametrize(
    ("previous_expires_at", "lookups"),
    [(None, ["lookup"]), (NOW, ["lookup"]), (NOW + 1, ["lookup", "before"]), (NOW + 9, ["lookup", "before"])],
)
def test_a_previous_value_names_its_token_until_it_ends(previous_expires_at: int | None, lookups: list[str]) -> None:
    row = ROW._replace(token_previous_lookup="before", token_previous_expires_at=previous_expires_at)
    assert [*row.lookups(NOW)] == lookups
    assert [*row.lookups(row.token_expires_at)] == ["lookup"]


REASONS: list[tuple[dict[str, object], type[TokenRefused]]] = [
    ({"token_is_active": False}, TokenInactive),
    ({"token_expires_at": NOW}, TokenExpired),
    ({"project_is_active": False}, ProjectInactive),
]


@pytest.mark.parametrize("number", range(len(REASONS)))
@pytest.mark.parametrize("is_paid", [False, True])
def test_first_reason_of_a_bad_standing_is_reported_before_all_limits(number: int, *, is_paid: bool) -> None:
    fields: dict[str, object] = {}
    for values, _ in REASONS[number:]:
        fields |= values
    refusal = batch(ROW._replace(**fields), Fake(QuotaExhausted)).decide(claim(is_paid=is_paid, is_reserved=True))  # type: ignore[arg-type]
    assert type(refusal) is REASONS[number][1]


@pytest.mark.parametrize("is_paid", [False, True])
def test_reserved_endpoint_is_reported_before_the_limits(*, is_paid: bool) -> None:
    refusal = batch(ROW, Fake(QuotaExhausted)).decide(claim(is_paid=is_paid, is_reserved=True))
    assert type(refusal) is EndpointNotAllowed


def test_first_limit_that_refuses_is_reported_and_no_limit_counts() -> None:
    limits = [Fake(), Fake(TokenRefused), Fake(QuotaExhausted), Fake()]
    made = batch(ROW, *limits)
    assert type(made.decide(claim())) is TokenRefused
    assert [limit.hits for limit in limits] == [[], [], [], []]
    assert made.admitted == []


def test_all_limits_count_an_admitted_request() -> None:
    limits = [Fake(), Fake()]
    asked = claim()
    batch(ROW, *limits).decide(asked)
    assert [limit.hits for limit in limits] == [[asked.opening.request_id]] * 2


def test_refusal_names_the_request_the_token_and_the_time() -> None:
    asked = claim()
    refusal = batch(ROW, MaxRequests(1, 1)).decide(asked)
    assert isinstance(refusal, QuotaExhausted)
    assert refusal.refused == Refused(asked.opening, ROW.holder, NOW)


def test_paid_claim_passes_no_limit_and_is_not_counted() -> None:
    limit, keys = Fake(QuotaExhausted), Keys()
    made = batch(ROW, limit, keys=keys)
    assert made.decide(claim(is_paid=True)) is None
    assert (limit.hits, made.admitted, keys.opened) == ([], [], [])


def test_key_that_cannot_be_decrypted_is_a_fault_and_counts_nothing() -> None:
    limit = Fake()
    made = batch(ROW, limit, keys=Keys(fails=True))
    fault = made.decide(claim())
    assert type(fault) is GatewayError
    assert "project project" in str(fault)
    assert (limit.hits, made.admitted) == ([], [])


def test_key_of_a_project_is_decrypted_once_in_a_batch() -> None:
    keys = Keys()
    made = batch(keys=keys)
    assert all(isinstance(made.decide(claim()), Admitted) for _ in range(3))
    assert keys.opened == ["project"]


def test_each_admission_changes_what_the_next_may_do() -> None:
    made = batch(ROW, MaxRequests(3, 5))
    outcomes = [type(made.decide(claim())) for _ in range(4)]
    assert outcomes == [Admitted, Admitted, QuotaExhausted, QuotaExhausted]


def balance(kind: str, maximum: int, owner: str = "token") -> Balance:
    return Balance.begin(owner, kind, maximum, NOW)


def test_an_admitted_request_holds_a_slot_of_its_token_and_its_project() -> None:
    own, of_project = balance("parallel", 1), balance("parallel", 2, "project")
    made = batch(ROW, *limits_of(MaxRequests(0, 0), [own], [of_project], NOW))
    first = made.decide(claim())
    assert isinstance(first, Admitted)
    assert made.slots == [Slot(first.opened.request_id, f"{owner}/parallel") for owner in ("token", "project")]
    assert first.opened.has_slots
    assert isinstance(made.decide(claim()), TooManyParallel)
    assert (own.used, of_project.used) == (1, 1)


def test_a_further_response_over_a_websocket_holds_no_slot_and_counts_in_windows() -> None:
    own, window = balance("parallel", 1), balance("requests/minute", 5)
    made = batch(ROW, *limits_of(MaxRequests(0, 0), [own, window], [], NOW))
    made.decide(claim())
    held, asked = [*made.slots], claim()
    further = made.decide(replace(asked, opening=asked.opening._replace(session_id="opening")))
    assert isinstance(further, Admitted)
    assert made.slots == held
    assert not further.opened.has_slots
    assert further.windows == (Standing(5, 3, 61 * clock.SECOND - NOW),)


def test_a_row_is_read_with_its_limits_in_the_order_of_the_checks() -> None:
    values = [f"value of {name}" for name in TokenRow._fields]
    kinds = ["parallel", "requests/second", "requests/day"]
    owners = (values[0], values[7], "another")
    balances = {owner: [balance(kind, 9, owner) for kind in kinds] for owner in owners}
    state = state_of((*values, None), balances, {}, NOW)
    assert state.row._asdict() == {name: f"value of {name}" for name in TokenRow._fields}
    shown = [getattr(limit, "_balance", None) for limit in state.limits]
    own, project = values[0], values[7]
    assert [one and one.id for one in shown] == [
        None,
        f"{own}/requests/day",
        f"{project}/requests/day",
        f"{own}/requests/second",
        f"{project}/requests/second",
        f"{own}/parallel",
        f"{project}/parallel",
    ]


def test_after_the_clock_stepped_back_each_limit_holds_what_a_request_reserves() -> None:
    later = NOW + clock.DAY
    own = [Balance.begin("token", kind, 10**6, later) for kind in ("usd/day", "tokens/minute")]
    counting = limits_of(MaxRequests(0, 0), own, [], NOW)
    state = TokenState(ROW, counting[:1], Headroom([OwnHeadroom(own, NOW)]), lambda: counting)
    made = Batch({NAME: state}, NOW, Keys().open, lambda *_: Bounds(10, 20, 3, 5), 4096)
    asked = claim()
    asked.keep(Reading(("a",), demand=Demand(10, 5)))
    admitted = made.decide(asked)
    assert isinstance(admitted, Admitted)
    assert admitted.opened.reserved == Amounts(15, 35)
    assert admitted.opened.is_awaited
    made.close()
    assert [one.state.reserved for one in own if one.state is not None] == [35, 15]
