import asyncio
import contextlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import NoneType

import pytest
from support.gateway.processes import DEADLINE, ROOT, clean_environment
from support.stores.admissions import admit, outcomes
from support.stores.stores import (
    API_KEY,
    UNKNOWN_TOKEN,
    changed,
    foreign_lock,
    make_token,
    opened,
    opening,
    rows,
    set_columns,
)

from store import clock
from store.admission.admission import Admission
from store.admission.decision import Admitted
from store.errors import (
    EndpointNotAllowed,
    GatewayError,
    InvalidToken,
    ProjectInactive,
    QuotaExhausted,
    StoreUnavailable,
    TokenExpired,
    TokenInactive,
)
from store.ledger.ledger import Outcome, Settlement
from store.ledger.usage import Consumption, Metered, Source
from store.management.projects import Projects
from store.management.tokens import TokenRecord, Tokens
from store.request import Holder
from store.runtime.settings import Settings
from store.store import Store


@pytest.fixture
def admission(store: Store) -> Iterator[Admission]:
    admission = Admission(store)
    yield admission
    admission.close()


def count_of(store: Store, token: TokenRecord) -> int:
    return Tokens(store).get(token.id).request_count


def test_admitted_request_is_counted_and_gets_the_key_of_its_project(store: Store, admission: Admission) -> None:
    token, before = make_token(store), clock.now()
    (admitted,) = admit(admission, token.value)
    project = Projects(store).get(token.project_id)
    assert isinstance(admitted, Admitted)
    assert (admitted.holder, admitted.api_key) == (Holder(token.id, None, project.id, project.name), API_KEY)
    assert (admitted.opened.token_id, admitted.opened.project_id) == (token.id, project.id)
    after = Tokens(store).get(token.id)
    assert after.last_used_at == admitted.opened.started_at
    assert after.request_count == 1
    assert after.last_used_at is not None
    assert before <= after.last_used_at <= clock.now()


def test_settlement_that_cannot_be_written_does_not_affect_other_requests(store: Store) -> None:
    token, admission = make_token(store), Admission(store)
    usages = [{"input_tokens": 1}, {"input_tokens": 2**70}, {"input_tokens": 3}]

    async def settle_and_go_on() -> None:
        opened = [(await admission.admit(token.value, opening())).opened for _ in usages]
        for row, units in zip(opened, usages, strict=True):
            admission.settle(Settlement(row, Outcome(200), Metered(Source.OBSERVED, (Consumption("own", units),))))
        await admission.admit(token.value, opening())

    asyncio.run(settle_and_go_on())
    admission.close()
    found = {row["input_tokens"]: row["usage_source"] for row in rows(store, "request") if row["status"]}
    assert found == {1: "observed", None: "unknown", 3: "observed"}
    assert count_of(store, token) == 4


def test_repr_of_admitted_hides_the_key(store: Store, admission: Admission) -> None:
    (admitted,) = admit(admission, make_token(store).value)
    assert API_KEY not in repr(admitted)


@pytest.mark.parametrize(
    "value", ["", "nonsense", "' OR 1=1 --", UNKNOWN_TOKEN, UNKNOWN_TOKEN.upper() + "A", "\ud800", "\0", "x" * 10**6]
)
def test_unknown_or_malformed_token_is_invalid(store: Store, admission: Admission, value: str) -> None:
    make_token(store)
    assert outcomes(admission, value) == [InvalidToken]


def test_other_spellings_of_a_token_and_its_id_are_invalid(store: Store, admission: Admission) -> None:
    token = make_token(store)
    spellings = [token.value.upper(), token.value.replace("-", ""), f" {token.value}", f"{token.value}\n", token.id]
    assert outcomes(admission, *spellings, store.vault.lookup(token.value)) == [InvalidToken] * 6
    assert count_of(store, token) == 0


def use_up(store: Store, token: TokenRecord) -> None:
    set_columns(store, "token", token.id, max_requests=3, request_count=3)


def switch_off(store: Store, token: TokenRecord) -> None:
    Projects(store).update(token.project_id, {"is_active": False})


def expire(store: Store, token: TokenRecord) -> None:
    set_columns(store, "token", token.id, expires_at=clock.now())


def revoke(store: Store, token: TokenRecord) -> None:
    Tokens(store).revoke(token.id)


def delete(store: Store, token: TokenRecord) -> None:
    Projects(store).delete(token.project_id)


REFUSALS: list[tuple[Callable[[Store, TokenRecord], None], type[GatewayError]]] = [
    (use_up, QuotaExhausted),
    (switch_off, ProjectInactive),
    (expire, TokenExpired),
    (revoke, TokenInactive),
    (delete, InvalidToken),
]


@pytest.mark.parametrize("number", range(len(REFUSALS)))
def test_first_of_several_refusals_is_reported(store: Store, admission: Admission, number: int) -> None:
    token = make_token(store)
    for apply, _ in REFUSALS[: number + 1]:
        apply(store, token)
    assert outcomes(admission, token.value) == [REFUSALS[number][1]]


@pytest.mark.parametrize(("apply", "refusal"), REFUSALS)
def test_each_refusal_holds_from_the_next_request_on_and_counts_nothing(
    store: Store, admission: Admission, apply: Callable[[Store, TokenRecord], None], refusal: type[GatewayError]
) -> None:
    token, other = make_token(store), make_token(store)
    assert outcomes(admission, token.value) == [Admitted]
    apply(store, token)
    before = Tokens(store).list()
    assert outcomes(admission, token.value) == [refusal]
    assert Tokens(store).list() == before
    assert outcomes(admission, other.value) == [Admitted]


def ask_for_reserved(admission: Admission, value: str) -> type:
    """Return the type of the outcome of a request for a reserved endpoint."""

    async def ask() -> Admitted | BaseException:
        try:
            return await admission.admit(value, opening("/v1/keys", is_reserved=True))
        except GatewayError as error:
            return error

    return type(asyncio.run(ask()))


def test_reserved_endpoint_is_refused_and_counts_nothing(store: Store, admission: Admission) -> None:
    token = make_token(store)
    assert ask_for_reserved(admission, token.value) is EndpointNotAllowed
    assert Tokens(store).get(token.id) == token
    assert rows(store, "request") == []
    assert outcomes(admission, token.value) == [Admitted]


@pytest.mark.parametrize(("apply", "refusal"), REFUSALS)
def test_reserved_endpoint_is_reported_after_token_and_project_and_before_the_quota(
    store: Store, admission: Admission, apply: Callable[[Store, TokenRecord], None], refusal: type[GatewayError]
) -> None:
    token = make_token(store)
    apply(store, token)
    expected = EndpointNotAllowed if refusal is QuotaExhausted else refusal
    assert ask_for_reserved(admission, token.value) is expected
    assert ask_for_reserved(admission, UNKNOWN_TOKEN) is InvalidToken


def test_reserved_endpoint_refuses_only_its_own_request_of_a_batch(store: Store, admission: Admission) -> None:
    token = make_token(store, max_requests=2)

    async def all_at_once() -> list[Admitted | BaseException]:
        openings = [opening(is_reserved=reserved) for reserved in (True, False, True, False, True, False)]
        calls = [
            *(admission.admit(token.value, each) for each in openings),
            admission.admit_again(token.id, openings[0]),
        ]
        return await asyncio.gather(*calls, return_exceptions=True)

    refused, admitted = EndpointNotAllowed, Admitted
    types = [type(outcome) for outcome in asyncio.run(all_at_once())]
    assert types == [refused, admitted, refused, admitted, refused, QuotaExhausted, refused]
    assert count_of(store, token) == 2


def test_refused_token_is_admitted_once_the_reason_is_gone(store: Store, admission: Admission) -> None:
    token = make_token(store, max_requests=1)
    assert outcomes(admission, token.value, token.value) == [Admitted, QuotaExhausted]
    Tokens(store).update(token.id, {"max_requests": 2})
    assert outcomes(admission, token.value) == [Admitted]
    revoke(store, token)
    Tokens(store).update(token.id, {"is_active": True, "max_requests": 0})
    assert outcomes(admission, token.value) == [Admitted]
    switch_off(store, token)
    Projects(store).update(token.project_id, {"is_active": True})
    assert outcomes(admission, token.value) == [Admitted]
    assert count_of(store, token) == 4


def test_limit_below_the_count_refuses(store: Store, admission: Admission) -> None:
    token = make_token(store)
    admit(admission, *[token.value] * 3)
    Tokens(store).update(token.id, {"max_requests": 2})
    assert outcomes(admission, token.value) == [QuotaExhausted]


def test_token_expires_at_its_time_and_not_before(store: Store, admission: Admission) -> None:
    token = make_token(store)
    set_columns(store, "token", token.id, expires_at=clock.now() + 3600 * clock.SECOND)
    assert outcomes(admission, token.value) == [Admitted]
    set_columns(store, "token", token.id, expires_at=clock.now())
    assert outcomes(admission, token.value) == [TokenExpired]


def test_next_request_gets_the_replaced_key(store: Store, admission: Admission) -> None:
    token = make_token(store)
    admit(admission, token.value)
    Projects(store).update(token.project_id, {"api_key": "sk-new"})
    (admitted,) = admit(admission, token.value)
    assert isinstance(admitted, Admitted)
    assert admitted.api_key == "sk-new"


def test_key_that_cannot_be_decrypted_refuses_only_its_project(store: Store, admission: Admission) -> None:
    broken, swapped, good = (make_token(store) for _ in range(3))
    set_columns(store, "project", broken.project_id, sealed_api_key=b"damaged")
    (sealed,) = store.database.execute("SELECT sealed_api_key FROM project WHERE id = ?", [good.project_id])[0]
    set_columns(store, "project", swapped.project_id, sealed_api_key=sealed)
    result = outcomes(admission, broken.value, good.value, swapped.value, good.value)
    assert result == [GatewayError, Admitted, GatewayError, Admitted]
    assert [count_of(store, token) for token in (broken, swapped, good)] == [0, 0, 2]


def test_limit_is_exact_among_hundreds_of_requests_at_once(store: Store, admission: Admission) -> None:
    limited, free = make_token(store, max_requests=100), make_token(store)
    values = [limited.value, free.value] * 300
    counts = Counter(outcomes(admission, *values))
    assert counts == {Admitted: 400, QuotaExhausted: 200}
    assert (count_of(store, limited), count_of(store, free)) == (100, 300)


def test_replay_is_admitted_by_public_id_and_counted(store: Store, admission: Admission) -> None:
    token = make_token(store, max_requests=3)

    async def replays() -> list[Admitted | BaseException]:
        again = admission.admit_again
        calls = [
            admission.admit(token.value, opening()),
            *(again(id_, opening()) for id_ in (token.id, token.id, token.id, token.value, "x")),
        ]
        return await asyncio.gather(*calls, return_exceptions=True)

    first, *others = asyncio.run(replays())
    assert isinstance(first, Admitted)
    assert [isinstance(other, Admitted) and other.api_key for other in others[:2]] == [first.api_key] * 2
    assert [type(other) for other in others[2:]] == [QuotaExhausted, InvalidToken, InvalidToken]
    assert count_of(store, token) == 3


@pytest.mark.parametrize(("spoil", "refusal"), REFUSALS[1:])
def test_paid_request_is_checked_again_and_not_counted(
    store: Store, admission: Admission, spoil: Callable[[Store, TokenRecord], None], refusal: type[GatewayError]
) -> None:
    token = make_token(store, max_requests=1)
    admit(admission, token.value)
    asyncio.run(admission.check_again(token.id, opening()))
    assert count_of(store, token) == len(rows(store, "request")) == 1
    spoil(store, token)
    with pytest.raises(refusal):
        asyncio.run(admission.check_again(token.id, opening()))


def test_paid_request_in_a_batch_does_not_affect_the_others(store: Store, admission: Admission) -> None:
    token = make_token(store, max_requests=2)

    async def all_at_once() -> Sequence[object]:
        return await asyncio.gather(
            admission.admit(token.value, opening()),
            admission.check_again(token.id, opening()),
            admission.admit(token.value, opening()),
            admission.admit(token.value, opening()),
            admission.check_again(token.id, opening()),
            return_exceptions=True,
        )

    outcomes = asyncio.run(all_at_once())
    assert [type(outcome) for outcome in outcomes] == [Admitted, NoneType, Admitted, QuotaExhausted, NoneType]
    assert count_of(store, token) == 2


def test_requests_of_a_batch_are_decided_in_the_order_of_arrival(store: Store, admission: Admission) -> None:
    token = make_token(store, max_requests=2)
    assert outcomes(admission, *[token.value] * 4) == [Admitted, Admitted, QuotaExhausted, QuotaExhausted]


def test_locked_store_refuses_and_counts_nothing_afterwards(settings: Settings) -> None:
    with opened(changed(settings, store_timeout=0.2)) as store:
        token, admission = make_token(store), Admission(store)
        try:
            with foreign_lock(store):
                assert outcomes(admission, *[token.value] * 50) == [StoreUnavailable] * 50
            assert outcomes(admission, token.value) == [Admitted]
            assert count_of(store, token) == 1
        finally:
            admission.close()


ADMIT = """
import asyncio, collections, json, sys
from store.admission.admission import Admission
from store.operations.opening import open_store
from store.ids import new_request_id
from store.request import Opening
from store.runtime.settings import Settings
store = open_store(Settings.load())
admission = Admission(store)
print("ready", flush=True)
token, number = sys.stdin.readline().split()
async def main():
    openings = [Opening(new_request_id(), "GET", "/v1/models", "/v1/models", None) for _ in range(int(number))]
    return await asyncio.gather(*(admission.admit(token, opening) for opening in openings), return_exceptions=True)
print(json.dumps(collections.Counter(type(outcome).__name__ for outcome in asyncio.run(main()))))
admission.close()
store.database.close()
"""


@contextlib.contextmanager
def admitting_processes(settings: Settings, number: int) -> Iterator[list[subprocess.Popen[str]]]:
    folder = settings.data_dir
    env = {
        **clean_environment(),
        "DATA_DIR": str(folder),
        "DATABASE_URL": settings.database_url,
        "STORE_TIMEOUT": "10",
        "PYTHONPATH": str(ROOT),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ADMIT], env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder
        )
        for _ in range(number)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            with process:
                process.kill()


def test_limit_is_exact_over_several_processes(store: Store, settings: Settings) -> None:
    token, each = make_token(store, max_requests=500), 400
    with admitting_processes(settings, 2) as processes:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{token.value} {each}\n")
            process.stdin.flush()
        counts = [Counter(json.loads(process.communicate(timeout=DEADLINE)[0])) for process in processes]
    assert sum(counts, Counter()) == {"Admitted": 500, "QuotaExhausted": 2 * each - 500}
    assert count_of(store, token) == 500
