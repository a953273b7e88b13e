"""Looks for an order of admissions, settlements, changes of limits, rotations of tokens, deaths of processes and times
in which the store and a small model of the limits disagree.

What a budget has settled is compared with the rows of the ledger, too, and what is reserved with what is held.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.stores import limits_model
from support.stores.limits_model import (
    INPUT_PRICE,
    OUTPUT_PRICE,
    USD_PERIODS,
    USUAL_OUTPUT,
    Asked,
    ModelBudget,
    ModelOwner,
    ModelToken,
    Verdict,
    period_of,
)
from support.stores.store_clock import StoreClock
from support.stores.stores import API_KEY, on_sqlite, opening

from store.admission import admission as admission_module
from store.admission import inbox, write_behind
from store.admission.admission import Admission
from store.admission.compensation import take_back
from store.admission.decision import Admitted, Extended
from store.clock import SECOND, from_rfc3339
from store.errors import GatewayError
from store.ledger import instances
from store.ledger.ledger import Ledger, Outcome, Settlement
from store.ledger.usage import Consumption, Metered, Source
from store.limits.standing import LimitStanding
from store.limits.window import PERIODS
from store.management.prices import OwnPrices
from store.management.projects import Projects
from store.management.tokens import Tokens
from store.request import Amounts, Demand, Opened, Opening, Reading
from store.store import Store

PROCESSES = 2
TOKENS = 2

places = st.integers(0, PROCESSES - 1)
tokens = st.integers(0, TOKENS - 1)
requests_windows = st.dictionaries(
    st.tuples(st.just("requests"), st.sampled_from([*PERIODS])), st.integers(1, 6), max_size=2
)
tokens_windows = st.dictionaries(
    st.tuples(st.just("tokens"), st.sampled_from([*PERIODS])), st.integers(1, 30), max_size=2
)
windows = st.builds(lambda one, other: {**one, **other}, requests_windows, tokens_windows)
budgets = st.dictionaries(
    st.tuples(st.just("usd"), st.sampled_from(USD_PERIODS)),
    st.integers(1, 60).map(lambda usd: usd * INPUT_PRICE),
    max_size=2,
)
changes_of_limits = st.fixed_dictionaries(
    {},
    optional={
        "rate_limits": windows,
        "budgets": budgets,
        "max_parallel_requests": st.sampled_from([None, 1, 2, 3, 4, 6, 8]),
    },
)
asked = st.builds(
    Asked,
    st.integers(0, 6),
    st.sampled_from([None, 0, 1, 2, 4, 9]),
    is_priced=st.sampled_from([True, True, True, False]),
    is_further=st.sampled_from([False, False, True]),
)
amounts_of_more = st.builds(lambda output: Amounts(output, output * OUTPUT_PRICE), st.integers(1, 8))
BEGIN = from_rfc3339("2027-01-30T21:30:00.250Z")
"""Shortly before a week, a month and a day end."""

SENT = Outcome(status=200, duration_ms=1)


@dataclass
class Process:
    """A process, the requests that it has not settled, and what it has not written yet, in its order."""

    admission: Admission
    open: dict[str, "Request"] = field(default_factory=dict)
    unwritten: list[Callable[[], None]] = field(default_factory=list)
    is_stopped: bool = False

    def written(self) -> None:
        """Note in the model what the process writes with its next transaction."""
        for change in self.unwritten:
            change()
        self.unwritten = []


@dataclass
class Request:
    """A request that was admitted."""

    opened: Opened
    token: ModelToken
    process: Process
    clock: StoreClock
    counted: Amounts | None = None
    """The amounts that it has counted, now that it is settled."""
    is_limited: bool = False
    """True if a limit was set while it ran."""

    @property
    def id(self) -> str:
        return self.opened.request_id

    def free_slots(self) -> None:
        for owner in self.token.owners:
            owner.holders.discard(self.id)

    def settle(self, amounts: Amounts | None = None) -> None:
        """Settle it with what it counts, or as unknown; where others have settled it already, that is a correction."""
        amounts = self.opened.reserved if amounts is None else amounts
        self._count(amounts)
        self.process.open.pop(self.id, None)

    def settle_by_others(self) -> None:
        """Settle it as unknown with what its row has reserved, as its process does not say how it ended."""
        self.settle(self.token.reserved.get(self.id, Amounts()))

    def _count(self, amounts: Amounts) -> None:
        now, at = self.clock.now, self.opened.started_at
        is_first, before = self.counted is None, self.counted or Amounts()
        self.free_slots()
        for owner in self.token.owners:
            owner.let_go(self.id, at, now)
            if self.opened.is_counted or self.opened.has_slots or self.is_limited or not is_first:
                owner.count(at, amounts.minus(before), now)
        self.counted = amounts


class Limits(RuleBasedStateMachine):
    """Two tokens of a project, and two processes. Nothing is settled on time: only with the next transaction."""

    requests = Bundle("requests")

    def __init__(self, store: Store, clock: StoreClock) -> None:
        super().__init__()
        self.store = store
        self.clock = clock
        clock.set(BEGIN)  # the same for each example
        project = Projects(store).create("Tests", API_KEY)
        made = [Tokens(store).create(project.id, 0) for _ in range(TOKENS)]
        self.values = [token.value for token in made]
        self.previous = [("", 0)] * TOKENS
        """The values before, and when they end."""
        self.project = ModelOwner(project.id, "project")
        self.tokens = [ModelToken(token.id, "token", project=self.project) for token in made]
        self.processes = [Process(Admission(store, USUAL_OUTPUT)) for _ in range(PROCESSES)]
        rates = {"input": Decimal(1), "output": Decimal(2)}
        OwnPrices(store).set(rates, model="priced", project_id=project.id)
        self.dead: list[Process] = []
        self.admitted: dict[str, Request] = {}

    @property
    def owners(self) -> Sequence[ModelOwner]:
        return (self.project, *self.tokens)

    def teardown(self) -> None:
        for process in (*self.processes, *self.dead):
            self._stop(process)
        self.the_store_and_the_model_agree()
        assert all(request.counted is not None for request in self.admitted.values())
        assert not any(owner.holders for owner in self.owners)

    @initialize(changes=st.tuples(*[changes_of_limits] * (TOKENS + 1)))
    def begin(self, changes: Sequence[dict[str, Any]]) -> None:
        self.limit_project(changes[TOKENS])
        for number in range(TOKENS):
            self.limit_token(number, changes[number], None)

    @rule(target=requests, place=places, claims=st.lists(st.tuples(tokens, asked), min_size=1, max_size=6))
    def admit(self, place: int, claims: Sequence[tuple[int, Asked]]) -> Any:
        return multiple(*self._admit(self.processes[place], claims))

    @rule(target=requests, place=places, number=tokens, asks=asked)
    def admit_one(self, place: int, number: int, asks: Asked) -> Any:
        return multiple(*self._admit(self.processes[place], [(number, asks)]))

    @precondition(lambda self: self.dead)
    @rule(target=requests, number=tokens, asks=asked, data=st.data())
    def admit_by_one_that_was_believed_dead(self, number: int, asks: Asked, data: st.DataObject) -> Any:
        return multiple(*self._admit(data.draw(st.sampled_from(self.dead)), [(number, asks)]))

    @rule(request=requests, more=st.lists(amounts_of_more, min_size=1, max_size=2))
    def grow(self, request: Request, more: Sequence[Amounts]) -> None:
        """Reserve more for a request; twice at once, too, as responses over a WebSocket may."""
        opened = request.opened
        hypothesis.assume(not request.process.is_stopped)

        async def run() -> Sequence[Extended]:
            return await asyncio.gather(*[request.process.admission.grow(opened, each) for each in more])

        found = asyncio.run(run())
        request.process.written()
        for each, extended in zip(more, found, strict=True):
            if request.counted is not None or request.id not in self.admitted:
                assert extended == Extended(opened)
                continue
            now, at = self.clock.now, opened.started_at
            reserved, is_full = limits_model.grow(request.token, request.id, at, each, now)
            assert (extended.opened.reserved.minus(opened.reserved), extended.is_full) == (reserved, is_full)
        # Those who wait for several add them up.
        reserved = request.token.reserved.get(request.id, Amounts())
        request.opened = opened._replace(reserved=reserved)

    @rule(request=consumes(requests), used=st.tuples(st.integers(0, 8), st.integers(0, 8)), is_priced=st.booleans())
    def settle_with_usage(self, request: Request, used: tuple[int, int], is_priced: bool) -> None:
        model = "priced" if is_priced else "another"
        units = dict(zip(("input_tokens", "output_tokens"), used, strict=True))
        metered = Metered(Source.OBSERVED, (Consumption(model, units),), model, model)
        usd = used[0] * INPUT_PRICE + used[1] * OUTPUT_PRICE if is_priced else request.opened.reserved.usd
        self._settle(Settlement(request.opened, SENT, metered), Amounts(sum(used), usd))

    @rule(request=consumes(requests))
    def settle_without_usage(self, request: Request) -> None:
        self._settle(Settlement(request.opened, SENT), request.opened.reserved)

    @rule(request=consumes(requests), status=st.sampled_from([302, 401, 429, 500]))
    def settle_with_an_error(self, request: Request, status: int) -> None:
        self._settle(Settlement(request.opened, SENT._replace(status=status, may_cost=False)), Amounts())

    @rule(request=consumes(requests))
    def settle_what_was_never_sent(self, request: Request) -> None:
        self._settle(Settlement(request.opened, SENT._replace(status=None, may_cost=False)), Amounts())

    @rule(request=requests)
    def release(self, request: Request) -> None:
        self._run(request.process, lambda admission: admission.release(request.opened))
        request.process.unwritten.append(request.free_slots)

    @rule(request=consumes(requests))
    def withdraw(self, request: Request) -> None:
        """Take back what was counted for a caller who was refused, as the outcome of the commit was unknown.

        It is exact where all windows have counted the request, and in the part of its own time.
        """
        hypothesis.assume(all(window.has_counted(request.opened) for _, window in request.token.requests_windows))
        with self.store.database.write(pipelined=True):
            take_back(self.store.database, [request.opened])
        if request.counted is None:
            limits_model.withdraw(request.token, request.opened, self.clock.now)
            del self.admitted[request.id], request.process.open[request.id]

    @rule(place=places)
    def write(self, place: int) -> None:
        """Write what a process has not written yet, without any admission."""
        self._write(self.processes[place])

    @rule(changes=changes_of_limits)
    def limit_project(self, changes: dict[str, Any]) -> None:
        Projects(self.store).update(self.project.id, _as_sent(changes))  # type: ignore[arg-type]
        self._limit(self.project, changes)

    @rule(number=tokens, changes=changes_of_limits, max_requests=st.sampled_from([None, 0, 3, 9]))
    def limit_token(self, number: int, changes: dict[str, Any], max_requests: int | None) -> None:
        token = self.tokens[number]
        sent = _as_sent(changes) | ({} if max_requests is None else {"max_requests": max_requests})
        Tokens(self.store).update(token.id, sent)  # type: ignore[arg-type]
        self._limit(token, changes)
        if max_requests is not None:
            token.max_requests = max_requests

    @rule(number=tokens, grace_seconds=st.sampled_from([0, 1, 60, 86_400]))
    def rotate(self, number: int, grace_seconds: int) -> None:
        """Nothing else changes, whichever of the values is sent."""
        ends_at = -(-self.clock.now // SECOND) * SECOND + grace_seconds * SECOND
        self.previous[number] = (self.values[number], ends_at if grace_seconds else 0)
        self.values[number] = Tokens(self.store).rotate(self.tokens[number].id, grace_seconds).value

    @rule(place=places)
    def kill(self, place: int) -> None:
        """Others settle what a process left open; what it has not written is written if it wakes, or when it ends."""
        dead = self.processes[place]
        instances.settle_left(self.store.database, Ledger(self.store.database), dead.admission.instance_id)
        for request in [*dead.open.values()]:
            request.settle_by_others()
        self.dead.append(dead)
        self.processes[place] = Process(Admission(self.store, USUAL_OUTPUT))

    @rule(place=places)
    def stop(self, place: int) -> None:
        self._stop(self.processes[place])
        self.processes[place] = Process(Admission(self.store, USUAL_OUTPUT))

    @rule(halves=st.integers(1, 130), more=st.integers(-1, 1), data=st.data())
    def time_goes_on(self, halves: int, more: int, data: st.DataObject) -> None:
        """By some halves of a part of a window, give or take a microsecond."""
        periods = {per for owner in self.owners for unit, per in owner.limits if unit != "usd"}
        per = data.draw(st.sampled_from(sorted(periods or PERIODS)))
        self.clock.set(self.clock.now + PERIODS[per] * halves // 120 + more)

    @rule(per=st.sampled_from(USD_PERIODS[1:]), more=st.integers(-1, 1))
    def a_period_ends(self, per: str, more: int) -> None:
        """Give or take a microsecond."""
        ends = period_of(per, self.clock.now)[1]
        assert ends is not None
        self.clock.set(ends + more)

    @rule(back=st.integers(1, 2 * SECOND))
    def time_steps_back(self, back: int) -> None:
        self.clock.set(self.clock.now - back)

    @invariant()
    def the_store_and_the_model_agree(self) -> None:
        now = self.clock.now
        project = Projects(self.store).get(self.project.id)
        assert _shown(project.limits) == self.project.shown(now)
        for token in self.tokens:
            record = Tokens(self.store).get(token.id)
            assert (_shown(record.limits), record.request_count) == (token.shown(now), token.request_count)
        rows = self._select("SELECT id, settled_at IS NOT NULL FROM request WHERE project_id = ?")
        assert {row_id: bool(is_settled) for row_id, is_settled in rows} == {
            request.id: request.counted is not None for request in self.admitted.values()
        }
        settled = len([request for request in self.admitted.values() if request.counted is not None])
        for table in ("hourly_usage", "daily_usage"):
            assert self._select(f"SELECT COALESCE(SUM(requests), 0) FROM {table} WHERE project_id = ?") == [(settled,)]  # noqa: S608
        slots = self._select(
            "SELECT request_id, balance_id FROM slot JOIN request ON request.id = request_id WHERE project_id = ?"
        )
        assert sorted(slots) == sorted((one, f"{owner.id}/parallel") for owner in self.owners for one in owner.holders)
        reserved = self._select(
            "SELECT id, reserved_tokens, reserved_usd FROM request WHERE project_id = ? AND reserved_usd IS NOT NULL"
        )
        assert {row_id: Amounts(*amounts) for row_id, *amounts in reserved} == {
            row_id: amounts for token in self.tokens for row_id, amounts in token.reserved.items()
        }
        self.budgets_are_sums_of_rows()

    def budgets_are_sums_of_rows(self) -> None:
        """Check that each budget has settled what the rows of its period have counted, and that the sums say so too."""
        for owner, column in zip(self.owners, ("project_id", *["token_id"] * TOKENS), strict=True):
            for (unit, per), limit in owner.limits.items():
                if unit != "usd" or not isinstance(limit, ModelBudget):
                    continue
                begins_at = limit.begins_at(self.clock.now)
                for table, start in (("request", "started_at"), ("daily_usage", "start"), ("hourly_usage", "start")):
                    counted = self._select(
                        f"SELECT COALESCE(SUM(COALESCE(cost, 0) + COALESCE(budget_beyond, 0)), 0) FROM {table}"  # noqa: S608
                        f" WHERE project_id = ? AND {column} = '{owner.id}' AND {start} >= {begins_at}"
                    )
                    assert counted == [(limit.at(self.clock.now)[0],)], (table, unit, per)

    def _admit(self, process: Process, claimed: Sequence[tuple[int, Asked]]) -> list[Request]:
        openings = [_opening(asks) for _, asks in claimed]
        values = [self._value(number, place) for place, (number, _) in enumerate(claimed, len(self.admitted))]

        async def run() -> list[Admitted | GatewayError]:
            claims = zip(values, openings, strict=True)
            return await asyncio.gather(*[_ask(process.admission, *claim) for claim in claims])

        got = asyncio.run(run())
        process.written()
        admitted = []
        for (number, asks), asked_opening, outcome in zip(claimed, openings, got, strict=True):
            token = self.tokens[number]
            verdict = limits_model.decide(token, asked_opening.request_id, self.clock.now, asks)
            self._compare(outcome, verdict, token)
            if isinstance(outcome, Admitted):
                admitted.append(self._note(Request(outcome.opened, token, process, self.clock)))
        return admitted

    def _value(self, number: int, place: int) -> str:
        """Return a value of a token: the one before at every other place, while it works."""
        previous, ends_at = self.previous[number]
        return previous if place % 2 and self.clock.now < ends_at else self.values[number]

    def _compare(self, outcome: Admitted | GatewayError, verdict: Verdict, token: ModelToken) -> None:
        now = self.clock.now
        if isinstance(outcome, Admitted):
            assert verdict.code is None, verdict
            opened = outcome.opened
            assert (opened.has_slots, opened.is_counted) == (verdict.has_slots, verdict.is_counted)
            assert (opened.started_at, opened.reserved) == (verdict.at or now, verdict.reserved)
            assert [*outcome.windows] == [*verdict.windows]
            return
        assert outcome.code == verdict.code
        if verdict.owner:
            assert str(outcome).startswith(f"The {verdict.owner} may ")
        if verdict.code == "rate_limit_exceeded" and not verdict.wait:
            assert outcome.headers == {"x-should-retry": "false"}
        elif verdict.code == "rate_limit_exceeded":
            assert int(outcome.headers["retry-after-ms"]) == -(-verdict.wait // 1000)
        if verdict.passes_at:
            assert limits_model.would_pass(token, verdict.passes_at)
            assert not limits_model.would_pass(token, verdict.passes_at - 1)

    def _note(self, request: Request) -> Request:
        self.admitted[request.id] = request.process.open[request.id] = request
        return request

    def _limit(self, owner: ModelOwner, changes: dict[str, Any]) -> None:
        now, windows, budgets = self.clock.now, changes.get("rate_limits"), changes.get("budgets")
        running = [one for one in self.admitted.values() if owner in one.token.owners and one.counted is None]
        latest = max((one.opened.started_at for one in running), default=0)
        if windows is not None:
            owner.set_limits(("requests", "tokens"), windows, now, latest)
        if budgets is not None:
            owner.set_limits(("usd",), budgets, now, latest)
        if "max_parallel_requests" in changes:
            owner.set_parallel(changes["max_parallel_requests"])
        if budgets or any(unit == "tokens" for unit, _ in windows or ()):
            self._begin_counting(owner)

    def _begin_counting(self, owner: ModelOwner) -> None:
        requests = [each for each in self.admitted.values() if owner in each.token.owners]
        for each in requests:
            each.is_limited |= each.counted is None
        for limit in owner.limits.values():
            if isinstance(limit, ModelBudget):
                counted = [(each.opened.started_at, each.counted) for each in requests if each.counted]
                limit.come_to(max([self.clock.now, *(at for at, _ in counted)]))
                limit.settled = sum(amounts.usd for at, amounts in counted if at >= limit.since)

    def _settle(self, settlement: Settlement, amounts: Amounts) -> None:
        request = self.admitted.get(settlement.opened.request_id)
        hypothesis.assume(request is not None)
        assert request is not None
        self._run(request.process, lambda admission: admission.settle(settlement))
        request.process.unwritten.append(lambda: request.settle(amounts))

    def _run(self, process: Process, call: Callable[[Admission], None]) -> None:
        async def run() -> None:
            call(process.admission)

        asyncio.run(run())

    def _write(self, process: Process) -> None:
        asyncio.run(process.admission.check())
        process.written()

    def _stop(self, process: Process) -> None:
        process.admission.close()
        process.is_stopped = True
        process.written()
        for request in [*process.open.values()]:
            request.settle_by_others()

    def _select(self, sql: str) -> list[tuple[Any, ...]]:
        with self.store.database.read():
            return self.store.database.execute(sql, (self.project.id,))


async def _ask(admission: Admission, value: str, asked: Opening) -> Admitted | GatewayError:
    try:
        return await admission.admit(value, asked)
    except GatewayError as refusal:
        return refusal


def _as_sent(changes: dict[str, Any]) -> dict[str, Any]:
    sent = {**changes}
    if "rate_limits" in changes:
        sent["rate_limits"] = [{unit: maximum, "per": per} for (unit, per), maximum in changes["rate_limits"].items()]
    if "budgets" in changes:
        sent["budgets"] = [
            {"usd": f"{maximum / 10**12:.12f}", "per": per} for (_, per), maximum in changes["budgets"].items()
        ]
    return sent


def _opening(asks: Asked) -> Opening:
    demand = Demand(input_tokens=asks.input_tokens, output_tokens=asks.output_tokens)
    reading = Reading(("priced" if asks.is_priced else "no such model",), demand=demand)
    return opening()._replace(session_id="a WebSocket" if asks.is_further else None, reading=reading)


def _shown(limits: Sequence[LimitStanding]) -> Sequence[tuple[object, ...]]:
    return [(one.kind, one.per, one.limit, one.used, one.reserved, one.remaining, one.resets_at) for one in limits]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StoreClock:
    monkeypatch.setattr(admission_module, "PATIENCE", 0)
    monkeypatch.setattr(write_behind, "FLUSH_DELAY", 0)  # the next transaction writes all that waits
    for delay in ("FLUSH_DELAY", "URGENT_DELAY"):
        monkeypatch.setattr(inbox, delay, 3600)  # nothing is written before that, however slow the machine is
    return StoreClock(monkeypatch)


@on_sqlite
@pytest.mark.timeout(600)  # to find a short example of a fault takes long
def test_the_store_does_what_the_model_says(store: Store, clock: StoreClock) -> None:
    _look(store, clock)


@pytest.mark.soak("store/admission", "store/limits", "store/management")
@pytest.mark.timeout(3600)
def test_the_store_does_what_the_model_says_for_longer(store: Store, clock: StoreClock) -> None:
    _look(store, clock)


def _look(store: Store, clock: StoreClock) -> None:
    phases = [phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.explain]
    settings = hypothesis.settings(stateful_step_count=50, deadline=None, phases=phases)
    run_state_machine_as_test(lambda: Limits(store, clock), settings=settings)  # type: ignore[arg-type] # it is called
