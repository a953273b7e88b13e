"""Looks for an order of admissions, settlements, changes of limits, deaths of processes and times in which the store
and a small model of the limits disagree.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
from support.stores.limits_model import ModelOwner, ModelToken, Verdict
from support.stores.store_clock import StoreClock
from support.stores.stores import API_KEY, on_sqlite, opening

from store.admission import admission as admission_module
from store.admission import inbox, write_behind
from store.admission.admission import Admission
from store.admission.compensation import take_back
from store.admission.decision import Admitted
from store.clock import SECOND, from_rfc3339
from store.errors import GatewayError
from store.ledger import instances
from store.ledger.ledger import Ledger, Outcome, Settlement
from store.limits.standing import LimitStanding
from store.limits.window import PERIODS
from store.management.projects import Projects
from store.management.tokens import Tokens
from store.request import Opened, Opening
from store.store import Store

PROCESSES = 2
TOKENS = 2

places = st.integers(0, PROCESSES - 1)
tokens = st.integers(0, TOKENS - 1)
is_further = st.sampled_from([False, False, True])
maxima = st.integers(1, 6)
windows = st.dictionaries(st.sampled_from([*PERIODS]), maxima, max_size=2)
changes_of_limits = st.fixed_dictionaries(
    {}, optional={"rate_limits": windows, "max_parallel_requests": st.sampled_from([None, 1, 2, 3, 4, 6, 8])}
)

BEGIN = from_rfc3339("2027-01-30T21:30:00.250Z")


@dataclass
class Process:
    """A process, the requests that it has not settled, and what it has not written yet, in its order."""

    admission: Admission
    open: dict[str, "Request"] = field(default_factory=dict)
    unwritten: list[Callable[[], None]] = field(default_factory=list)

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
    is_settled: bool = False

    @property
    def id(self) -> str:
        return self.opened.request_id

    def free_slots(self) -> None:
        for owner in self.token.owners:
            owner.holders.discard(self.id)

    def settle(self) -> None:
        self.is_settled = True
        self.process.open.pop(self.id, None)
        self.free_slots()


class Limits(RuleBasedStateMachine):
    """Two tokens of a project, and two processes. Nothing is settled on time: only with the next transaction."""

    requests = Bundle("requests")

    def __init__(self, store: Store, clock: StoreClock) -> None:
        super().__init__()
        self.store = store
        self.clock = clock
        clock.set(BEGIN)  # the same for each example, or none would be found twice
        project = Projects(store).create("Tests", API_KEY)
        made = [Tokens(store).create(project.id, 0) for _ in range(TOKENS)]
        self.values = [token.value for token in made]
        self.project = ModelOwner(project.id, "project")
        self.tokens = [ModelToken(token.id, "token", project=self.project) for token in made]
        self.processes = [Process(Admission(store)) for _ in range(PROCESSES)]
        self.dead: list[Process] = []
        self.admitted: dict[str, Request] = {}

    @property
    def owners(self) -> Sequence[ModelOwner]:
        return (self.project, *self.tokens)

    def teardown(self) -> None:
        for process in (*self.processes, *self.dead):
            self._stop(process)
        self.the_store_and_the_model_agree()
        assert all(request.is_settled for request in self.admitted.values())
        assert not any(owner.holders for owner in self.owners)

    @initialize(changes=st.tuples(*[changes_of_limits] * (TOKENS + 1)))
    def begin(self, changes: Sequence[dict[str, Any]]) -> None:
        self.limit_project(changes[TOKENS])
        for number in range(TOKENS):
            self.limit_token(number, changes[number], None)

    @rule(target=requests, place=places, asked=st.lists(st.tuples(tokens, is_further), min_size=1, max_size=6))
    def admit(self, place: int, asked: Sequence[tuple[int, bool]]) -> Any:
        return multiple(*self._admit(self.processes[place], asked))

    @rule(target=requests, place=places, number=tokens)
    def admit_one(self, place: int, number: int) -> Any:
        return multiple(*self._admit(self.processes[place], [(number, False)]))

    @precondition(lambda self: self.dead)
    @rule(target=requests, number=tokens, data=st.data())
    def admit_by_one_that_was_believed_dead(self, number: int, data: st.DataObject) -> Any:
        return multiple(*self._admit(data.draw(st.sampled_from(self.dead)), [(number, False)]))

    @rule(request=consumes(requests))
    def settle(self, request: Request) -> None:
        settlement = Settlement(request.opened, Outcome(status=200, duration_ms=1))
        self._run(request.process, lambda admission: admission.settle(settlement))
        request.process.unwritten.append(request.settle)

    @rule(request=requests)
    def release(self, request: Request) -> None:
        self._run(request.process, lambda admission: admission.release(request.opened))
        request.process.unwritten.append(request.free_slots)

    @rule(request=consumes(requests))
    def withdraw(self, request: Request) -> None:
        """Take back what was counted for a caller who was refused, as the outcome of the commit was unknown.

        It is exact where all windows have counted the request, and in the part of its own time.
        """
        hypothesis.assume(all(window.has_counted(request.opened) for _, window in request.token.all_windows))
        with self.store.database.write(pipelined=True):
            take_back(self.store.database, [request.opened])
        if not request.is_settled:
            limits_model.withdraw(request.token, request.id)
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

    @rule(place=places)
    def kill(self, place: int) -> None:
        """Others settle what a process left open; what it has not written is written if it wakes, or when it ends."""
        dead = self.processes[place]
        instances.settle_left(self.store.database, Ledger(self.store.database), dead.admission.instance_id)
        for request in [*dead.open.values()]:
            request.settle()
        self.dead.append(dead)
        self.processes[place] = Process(Admission(self.store))

    @rule(place=places)
    def stop(self, place: int) -> None:
        self._stop(self.processes[place])
        self.processes[place] = Process(Admission(self.store))

    @rule(halves=st.integers(1, 130), more=st.integers(-1, 1), data=st.data())
    def time_goes_on(self, halves: int, more: int, data: st.DataObject) -> None:
        """By some halves of a part of a window, give or take a microsecond."""
        periods = {per for owner in self.owners for per in owner.windows}
        per = data.draw(st.sampled_from(sorted(periods or PERIODS)))
        self.clock.set(self.clock.now + PERIODS[per] * halves // 120 + more)

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
            request.id: request.is_settled for request in self.admitted.values()
        }
        settled = len([request for request in self.admitted.values() if request.is_settled])
        for table in ("hourly_usage", "daily_usage"):
            assert self._select(f"SELECT COALESCE(SUM(requests), 0) FROM {table} WHERE project_id = ?") == [(settled,)]  # noqa: S608
        held = self._select(
            "SELECT request_id, balance_id FROM slot JOIN request ON request.id = request_id WHERE project_id = ?"
        )
        assert sorted(held) == sorted((one, f"{owner.id}/parallel") for owner in self.owners for one in owner.holders)

    def _admit(self, process: Process, asked: Sequence[tuple[int, bool]]) -> list[Request]:
        openings = [opening()._replace(session_id="a WebSocket" if is_further else None) for _, is_further in asked]
        values = [self.values[number] for number, _ in asked]

        async def run() -> list[Admitted | GatewayError]:
            claims = zip(values, openings, strict=True)
            return await asyncio.gather(*[_ask(process.admission, *claim) for claim in claims])

        got = asyncio.run(run())
        process.written()
        admitted = []
        for (number, is_further), asked_opening, outcome in zip(asked, openings, got, strict=True):
            token = self.tokens[number]
            verdict = limits_model.decide(token, asked_opening.request_id, self.clock.now, is_further=is_further)
            self._compare(outcome, verdict, token)
            if isinstance(outcome, Admitted):
                admitted.append(self._note(Request(outcome.opened, token, process)))
        return admitted

    def _compare(self, outcome: Admitted | GatewayError, verdict: Verdict, token: ModelToken) -> None:
        now = self.clock.now
        if isinstance(outcome, Admitted):
            assert verdict.code is None, verdict
            assert (frozenset(outcome.opened.slots), outcome.opened.started_at) == (verdict.slots, now)
            assert outcome.window == verdict.window
            return
        assert outcome.code == verdict.code
        if verdict.owner:
            assert str(outcome).startswith(f"The {verdict.owner} may make {verdict.maximum} request")
        if verdict.code == "rate_limit_exceeded":
            wait = int(outcome.headers["retry-after-ms"])
            assert wait == -(-(verdict.passes_at - now) // 1000)
            assert limits_model.would_pass(token, verdict.passes_at)
            assert not limits_model.would_pass(token, verdict.passes_at - 1)

    def _note(self, request: Request) -> Request:
        self.admitted[request.id] = request.process.open[request.id] = request
        return request

    def _limit(self, owner: ModelOwner, changes: dict[str, Any]) -> None:
        if "rate_limits" in changes:
            owner.set_windows(changes["rate_limits"], self.clock.now)
        if "max_parallel_requests" in changes:
            owner.set_parallel(changes["max_parallel_requests"])

    def _run(self, process: Process, call: Callable[[Admission], None]) -> None:
        async def run() -> None:
            call(process.admission)

        asyncio.run(run())

    def _write(self, process: Process) -> None:
        asyncio.run(process.admission.check())
        process.written()

    def _stop(self, process: Process) -> None:
        process.admission.close()
        process.written()
        for request in [*process.open.values()]:
            request.settle()

    def _select(self, sql: str) -> list[tuple[Any, ...]]:
        with self.store.database.read():
            return self.store.database.execute(sql, (self.project.id,))


async def _ask(admission: Admission, value: str, asked: Opening) -> Admitted | GatewayError:
    try:
        return await admission.admit(value, asked)
    except GatewayError as refusal:
        return refusal


def _as_sent(changes: dict[str, Any]) -> dict[str, Any]:
    if "rate_limits" not in changes:
        return changes
    windows = [{"requests": maximum, "per": per} for per, maximum in changes["rate_limits"].items()]
    return {**changes, "rate_limits": windows}


def _shown(limits: Sequence[LimitStanding]) -> Sequence[tuple[object, ...]]:
    return [(one.kind, one.per, one.limit, one.used, one.remaining, one.resets_at) for one in limits]


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
