import asyncio
import itertools
import json
from collections.abc import Iterator

import pytest
from support.stores.stores import make_token, rows
from support.stores.stores import opening as row_of

from store.admission import admission as admission_module
from store.admission import policies
from store.admission.admission import Admission
from store.admission.decision import Admitted
from store.admission.policies import OwnedPolicy, Unread
from store.errors import (
    EndpointNotAllowed,
    GatewayError,
    IpNotAllowed,
    ModelNotAllowed,
    ModelNotFound,
    RequestTooLarge,
    TokenInactive,
    TokenRefused,
)
from store.management.tokens import Tokens
from store.policies import policy
from store.policies.policy import Policy
from store.request import NOTHING, Opening, Reading
from store.store import Store

ALL = Policy(None, None, None)
NOT_READ = None
MINI = Reading(("gpt-4o-mini",))
DOUBTFUL = Reading((), "The body names the field 'model' twice. Send it once.")


def opening(
    path: str = "/v1/chat/completions",
    reading: Reading | None = MINI,
    method: str = "POST",
    reserved: str | None = None,
    client: str | None = "192.0.2.1",
) -> Opening:
    return Opening("id", method, path, "/v1/{other}", reserved, client=client, reading=reading)


def models(*names: str) -> Policy:
    return policy.policy(json.dumps(names), None, None)


def entries(*texts: str) -> Policy:
    return Policy(None, texts, None)


NO_CLIENT = Policy(None, None, ())


def refusal(asked: Opening, own: Policy = ALL, of_project: Policy = ALL) -> TokenRefused | Unread | None:
    return policies.refusal([OwnedPolicy("token", own), OwnedPolicy("project", of_project)], asked)


def test_without_policies_all_pass_unread() -> None:
    assert policies.refusal([], opening(reading=NOT_READ)) is None
    assert refusal(opening(reading=NOT_READ)) is None


REFUSING = [NO_CLIENT, entries(), models()]
KINDS = [IpNotAllowed, EndpointNotAllowed, ModelNotAllowed]


@pytest.mark.parametrize(("first", "second"), [*itertools.product(range(3), repeat=2)])
def test_the_first_refusal_is_told_and_the_tokens_before_the_projects(first: int, second: int) -> None:
    found = refusal(opening(), REFUSING[first], REFUSING[second])
    assert type(found) is KINDS[min(first, second)]
    owner = "token" if first <= second else "project"
    assert found.message.startswith(f"The {owner}")


def test_a_token_and_its_project_must_both_allow() -> None:
    good, other = models("gpt-4o-mini", "b"), models("gpt-4o-mini", "c")
    assert refusal(opening(), good, other) is None
    found = refusal(opening(reading=Reading(("b",))), good, other)
    assert isinstance(found, ModelNotAllowed)
    assert found.message == "The project's 'allowed_models' do not include 'b'."


def test_all_models_of_a_request_are_judged() -> None:
    found = refusal(opening(reading=Reading(("gpt-4o-mini", "gpt-4o"))), models("gpt-4o-mini"))
    assert isinstance(found, ModelNotAllowed)
    assert found.message == "The token's 'allowed_models' do not include 'gpt-4o'."


@pytest.mark.parametrize("name", ["GPT-4o-mini", " gpt-4o-mini", "gpt-4o-mini-2024", "gpt-4o"])
def test_names_of_models_are_compared_exactly(name: str) -> None:
    assert isinstance(refusal(opening(reading=Reading((name,))), models("gpt-4o-mini")), ModelNotAllowed)


def test_a_request_has_to_be_read_only_where_models_are_limited() -> None:
    assert refusal(opening(reading=NOT_READ), entries("*"), Policy(None, None, None)) is None
    assert isinstance(refusal(opening(reading=NOT_READ), models("a")), Unread)
    assert isinstance(refusal(opening(reading=NOT_READ), ALL, models("a")), Unread)
    assert isinstance(refusal(opening(reading=NOT_READ), entries(), models("a")), EndpointNotAllowed)


def test_a_doubt_is_refused_and_told() -> None:
    found = refusal(opening(reading=DOUBTFUL), models("a"))
    assert isinstance(found, ModelNotAllowed)
    assert found.message == (
        "The token limits its models, and the model of this request cannot be told. "
        "The body names the field 'model' twice. Send it once."
    )
    assert refusal(opening(reading=DOUBTFUL), entries("*")) is None


def test_a_request_that_generates_names_a_model() -> None:
    assert isinstance(refusal(opening(reading=Reading()), models("a")), ModelNotAllowed)
    assert refusal(opening(reading=NOTHING), models()) is None


def test_a_path_that_is_read_variously_is_refused_where_endpoints_or_models_are_limited() -> None:
    odd = opening("/v1/files/%252e%252e/chat/completions", NOTHING)
    assert refusal(odd) is None
    assert isinstance(refusal(odd, entries("* /v1/*")), EndpointNotAllowed)
    assert isinstance(refusal(odd, models("a")), ModelNotAllowed)


def test_a_secret_in_a_request_is_not_told() -> None:
    token = "4e9e2930-8b67-4da4-8974-c4b7e842b758"
    for asked, own in [
        (opening(reading=Reading((token,))), models("a")),
        (opening(f"/v1/files/{token}"), entries("* /v1/chat*")),
    ]:
        found = refusal(asked, own)
        assert isinstance(found, TokenRefused)
        assert token not in found.message
        assert "***" in found.message


def test_a_long_name_is_cut() -> None:
    found = refusal(opening(reading=Reading(("m" * 100_000,))), models("a"))
    assert isinstance(found, TokenRefused)
    assert len(found.message) < 300


def test_a_replay_has_no_address_to_judge() -> None:
    assert refusal(opening(client=None), NO_CLIENT) is None


PART = "/v1/realtime/calls"
CALLS = opening(PART, NOTHING, reserved=PART)
CLOSED = EndpointNotAllowed.text


@pytest.mark.parametrize(
    ("own", "of_project", "is_open"),
    [
        (ALL, ALL, False),
        (entries("*"), entries("* /v1/*"), False),
        (entries("POST /v1/realtime/calls"), ALL, True),
        (ALL, entries("* /v1/realtime/calls"), True),
        (entries("POST /v1/realtime/calls"), entries("* /v1/*"), True),
        (entries("POST /v1/realtime/calls"), entries("* /v1/chat*"), False),
        (entries("* /v1/*"), entries("POST /v1/realtime/calls"), True),
        (entries("GET /v1/realtime/calls"), ALL, False),
    ],
)
def test_a_reserved_endpoint_is_opened_by_one_list_and_allowed_by_the_other(
    own: Policy, of_project: Policy, *, is_open: bool
) -> None:
    found = refusal(CALLS, own, of_project)
    assert (found is None) == is_open
    if not is_open:
        assert isinstance(found, EndpointNotAllowed)


def test_a_reserved_endpoint_without_policies_is_closed() -> None:
    found = policies.refusal([], CALLS)
    assert isinstance(found, EndpointNotAllowed)
    assert found.message == CLOSED


def test_a_reserved_path_that_is_read_variously_is_opened_by_nothing() -> None:
    asked = opening("/v1/%72ealtime/calls", NOTHING, reserved="")
    assert isinstance(refusal(asked, entries("POST /v1/realtime/calls")), EndpointNotAllowed)


LOOK_UPS = ["GET", "HEAD", "DELETE"]


@pytest.mark.parametrize("method", LOOK_UPS)
def test_other_models_are_not_found(method: str) -> None:
    own, of_project = models("a", "org/b*"), models("org/b", "c")
    for name, is_shown in {"a": False, "org%2Fb": True, "org/b": True, "c": False}.items():
        found = refusal(opening(f"/v1/models/{name}", NOTHING, method), own, of_project)
        assert (found is None) == is_shown, name
        assert found is None or isinstance(found, ModelNotFound)


@pytest.mark.parametrize("path", ["/v1/Models", "/v1/models;x", "/v1/models.json", "/v1/models%3Fx", "/v1/Models/a"])
def test_the_models_are_not_found_where_only_some_servers_find_them(path: str) -> None:
    for entry in ("a", "*", "*a"):
        assert isinstance(refusal(opening(path, NOTHING, "GET"), models(entry)), ModelNotFound)
    assert refusal(opening(path, NOTHING, "GET")) is None


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/", "/v1/models/a", "/v1/models-of-mine", "/v1/files"])
def test_what_lists_no_other_models_is_found(path: str) -> None:
    assert refusal(opening(path, NOTHING, "GET"), models("a")) is None


def test_the_list_of_models_shows_what_both_allow() -> None:
    for own, of_project, shown in (
        (models("a", "b"), models("b"), {"b"}),
        (models("a*", "b"), models("*b", "c"), {"ab", "b"}),
        (ALL, models("b"), {"b"}),
        (models("a*"), ALL, {"a", "ab"}),
        (ALL, models(), set()),
    ):
        found = policies.shown_models([OwnedPolicy("token", own), OwnedPolicy("project", of_project)])
        assert found is not None
        assert {name for name in ("a", "ab", "b", "c") if name in found} == shown
    assert policies.shown_models([OwnedPolicy("token", ALL), OwnedPolicy("project", ALL)]) is None


# Through the real admission and the real store.


class FakeReader:
    """Tells a reading, and counts how often it was asked for it."""

    def __init__(self, reading: Reading | Exception = MINI, *, is_ready: bool = True) -> None:
        self.reading = reading
        self.is_ready = is_ready
        self.asked = 0

    async def read(self, *, with_demand: bool) -> Reading:
        assert not with_demand  # no limit reserves anything
        self.asked += 1
        if isinstance(self.reading, Exception):
            raise self.reading
        return self.reading


@pytest.fixture
def admission(store: Store) -> Iterator[Admission]:
    admission = Admission(store)
    yield admission
    admission.close()


def ask(admission: Admission, value: str, reader: FakeReader | None) -> Admitted | Exception:
    async def asked() -> Admitted | Exception:
        try:
            return await admission.admit(value, row_of(), reader)
        except Exception as error:
            return error

    return asyncio.run(asked())


def count(store: Store) -> int:
    return sum(row["request_count"] for row in rows(store, "token"))


def test_a_request_is_read_only_for_a_policy(store: Store, admission: Admission) -> None:
    free, limited = make_token(store), make_token(store, allowed_models=["gpt-4o-mini"])
    reader = FakeReader()
    assert isinstance(ask(admission, free.value, reader), Admitted)
    assert reader.asked == 0
    assert isinstance(ask(admission, limited.value, reader), Admitted)
    assert reader.asked == 1
    assert isinstance(ask(admission, limited.value, FakeReader(Reading(("gpt-4o",)))), ModelNotAllowed)
    assert count(store) == len(rows(store, "request")) == 2


def test_a_token_whose_requests_are_read_costs_one_transaction_the_next_time(
    store: Store, admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = make_token(store, allowed_models=["gpt-4o-mini"])
    submitted: list[Reading | None] = []
    submit = admission._inbox.submit  # noqa: SLF001 - each call is a claim in a transaction

    async def noted(item: object) -> object:
        submitted.append(item.opening.reading)  # type: ignore[attr-defined]
        return await submit(item)  # type: ignore[arg-type]

    monkeypatch.setattr(admission._inbox, "submit", noted)  # noqa: SLF001
    for _ in range(2):
        assert isinstance(ask(admission, token.value, FakeReader()), Admitted)
    assert submitted == [None, MINI, MINI]


def test_a_body_that_has_not_come_is_not_waited_for_before_the_token_is_tested(
    store: Store, admission: Admission
) -> None:
    token = make_token(store, allowed_models=["gpt-4o-mini"])
    missing = FakeReader(LookupError(), is_ready=False)
    for _ in range(2):
        assert isinstance(ask(admission, token.value, missing), LookupError)
    Tokens(store).revoke(token.id)
    assert isinstance(ask(admission, token.value, missing), TokenRefused)
    assert missing.asked == 2
    assert count(store) == 0


def test_a_token_is_refused_before_its_request_is_read_from_the_second_time_on(
    store: Store, admission: Admission
) -> None:
    token = make_token(store, allowed_models=["gpt-4o-mini"])
    assert isinstance(ask(admission, token.value, FakeReader()), Admitted)
    Tokens(store).revoke(token.id)
    reader = FakeReader()
    for _ in range(3):
        assert isinstance(ask(admission, token.value, reader), TokenInactive)
    assert reader.asked == 1


def test_requests_are_not_read_any_more_once_the_policy_is_gone(store: Store, admission: Admission) -> None:
    token = make_token(store, allowed_models=["gpt-4o-mini"])
    assert isinstance(ask(admission, token.value, FakeReader()), Admitted)
    Tokens(store).update(token.id, {"allowed_models": None})
    reader = FakeReader()
    for _ in range(3):
        assert isinstance(ask(admission, token.value, reader), Admitted)
    assert reader.asked == 1


def test_a_request_that_cannot_be_read_is_refused_only_by_a_policy(store: Store, admission: Admission) -> None:
    token = make_token(store, allowed_models=["gpt-4o-mini"])
    assert isinstance(ask(admission, token.value, FakeReader()), Admitted)
    assert isinstance(ask(admission, token.value, FakeReader(RequestTooLarge())), RequestTooLarge)
    Tokens(store).update(token.id, {"allowed_models": None})
    assert isinstance(ask(admission, token.value, FakeReader(RequestTooLarge())), Admitted)


def test_a_request_that_nothing_can_read_is_a_fault(store: Store, admission: Admission) -> None:
    token = make_token(store, allowed_models=["gpt-4o-mini"])
    assert type(ask(admission, token.value, None)) is GatewayError
    with pytest.raises(GatewayError):
        asyncio.run(admission.check_again(token.id, row_of()))
    assert count(store) == 0


def test_the_hints_are_bounded(store: Store, admission: Admission, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_module, "MOST_HINTS", 1)
    tokens = [make_token(store, allowed_models=["gpt-4o-mini"]) for _ in range(3)]
    for token in tokens * 2:
        assert isinstance(ask(admission, token.value, FakeReader()), Admitted)
    assert len(admission._hints) == 1  # noqa: SLF001


def test_a_response_that_is_paid_is_judged_too(store: Store, admission: Admission) -> None:
    token = make_token(store, allowed_models=["gpt-4o-mini"])
    asyncio.run(admission.check_again(token.id, row_of(), FakeReader()))
    with pytest.raises(ModelNotAllowed):
        asyncio.run(admission.check_again(token.id, row_of(), FakeReader(DOUBTFUL)))
    assert count(store) == 0
