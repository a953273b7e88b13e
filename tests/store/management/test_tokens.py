import asyncio
import dataclasses
import sqlite3

import psycopg
import pytest
from support.stores.store_clock import StoreClock
from support.stores.stores import (
    API_KEY,
    UNKNOWN_TOKEN,
    admission_of,
    change_elsewhere,
    make_token,
    on_sqlite,
    opened,
    opening,
    set_columns,
)

from store import clock
from store.admission.admission import Admission
from store.errors import (
    ExpiredNotRotated,
    InactiveNotRotated,
    InvalidRequest,
    NotFound,
    ProjectInactive,
    TokenExpired,
)
from store.management.projects import Projects
from store.management.tokens import UNREADABLE, TokenChanges, TokenRecord, Tokens, is_token_value
from store.runtime.redaction import mask_secrets
from store.runtime.settings import Settings
from store.store import Store

DAY = 24 * 3600 * clock.SECOND


@pytest.fixture
def tokens(store: Store) -> Tokens:
    return Tokens(store)


@pytest.mark.parametrize(
    "text",
    [
        "6FD5CE84-0EFA-4D8D-9DBD-8DE4AB5E8B1B",
        "6fd5ce84-0efa-1d8d-9dbd-8de4ab5e8b1b",
        "6fd5ce84-0efa-4d8d-7dbd-8de4ab5e8b1b",
        "6fd5ce840efa4d8d9dbd8de4ab5e8b1b",
        "{6fd5ce84-0efa-4d8d-9dbd-8de4ab5e8b1b}",
        "6fd5ce84-0efa-4d8d-9dbd-8de4ab5e8b1b\n",
        " 6fd5ce84-0efa-4d8d-9dbd-8de4ab5e8b1b",
        "6fd5ce84-0efa-4d8d-9dbd-8de4ab5e8b1",
        "٦fd5ce84-0efa-4d8d-9dbd-8de4ab5e8b1b",
        "",
    ],
)
def test_only_a_canonical_uuid4_has_the_form_of_a_token(text: str) -> None:
    assert not is_token_value(text)


def test_the_name_of_a_token_is_set_changed_and_removed(tokens: Tokens, store: Store) -> None:
    token = make_token(store, name="Ann")
    other = make_token(store, name="Ann", project_id=token.project_id)
    assert [token.name, other.name, make_token(store).name] == ["Ann", "Ann", None]
    assert tokens.update(token.id, {"name": "Ben"}) == tokens.get(token.id) == dataclasses.replace(token, name="Ben")
    assert tokens.update(token.id, {"max_requests": 5}).name == "Ben"
    assert tokens.update(token.id, {"name": None}).name is None
    assert tokens.get(other.id).name == "Ann"


@pytest.mark.parametrize(
    "name",
    [
        "8f14e45f-ceea-4672-9c6d-4cf0d7a1b5e1",
        "of 8F14E45FCEEA46729C6D4CF0D7A1B5E1",
        "sk-proj-abc_DEF-0123456789",
        "Ann's key:SK-0123456789",
        "key_sk-0123456789",
        "\u5bc6\u94a5sk-0123456789",
    ],
)
def test_a_name_that_holds_a_secret_is_refused(tokens: Tokens, store: Store, name: str) -> None:
    assert mask_secrets(name) != name
    token = make_token(store, name="Ann")
    with pytest.raises(InvalidRequest, match="'name' has something in it with the form of a token or a key") as raised:
        make_token(store, project_id=token.project_id, name=name)
    assert "0123456789" not in raised.value.message
    assert "f14e" not in raised.value.message.lower()
    with pytest.raises(InvalidRequest):
        tokens.update(token.id, {"name": name, "max_requests": 5})
    assert tokens.list() == [token]


@pytest.mark.parametrize("name", ["helpdesk-assistant", "TASK-scheduler", "sk-learn", "3f2b8a9e", "Ask-0123456789"])
def test_a_name_of_words_is_accepted(store: Store, name: str) -> None:
    assert make_token(store, name=name).name == name


def test_a_new_token_has_the_defaults(store: Store, tokens: Tokens) -> None:
    before = clock.now()
    token = make_token(store)
    assert is_token_value(token.value)
    assert token.value != token.id
    assert (token.is_active, token.request_count, token.max_requests, token.last_used_at) == (True, 0, 0, None)
    assert before <= token.created_at <= clock.now()
    assert tokens.get(token.id) == token


@pytest.mark.parametrize("days", [1, 30, 365])
def test_a_token_expires_on_a_whole_second_after_its_days(store: Store, days: int) -> None:
    token = make_token(store, expires_in_days=days)
    assert token.expires_at % clock.SECOND == 0
    assert 0 <= token.created_at + days * DAY - token.expires_at < clock.SECOND


def test_a_token_of_zero_days_never_expires(store: Store) -> None:
    token = make_token(store, expires_in_days=0)
    assert clock.to_rfc3339(token.expires_at) == "9999-12-31T23:59:59Z"


def test_an_expiry_beyond_the_year_9999_is_rejected(store: Store) -> None:
    largest = (clock.NEVER - clock.now()) // DAY
    token = make_token(store, expires_in_days=largest)
    assert clock.to_rfc3339(token.expires_at).startswith("9999-12-3")
    for days in (largest + 1, 10**9, 2**63, 10**30):
        with pytest.raises(InvalidRequest, match="beyond the year 9999"):
            make_token(store, project_id=token.project_id, expires_in_days=days)
    assert len(Tokens(store).list()) == 1


def test_a_token_needs_an_active_project(store: Store, tokens: Tokens) -> None:
    project = Projects(store).create("Off", API_KEY)
    Projects(store).update(project.id, {"is_active": False})
    with pytest.raises(ProjectInactive):
        tokens.create(project.id)
    with pytest.raises(NotFound):
        tokens.create(UNKNOWN_TOKEN)
    assert tokens.list() == []


def test_tokens_are_listed_newest_first_by_project_and_by_use(store: Store, tokens: Tokens) -> None:
    project_id = Projects(store).create("One", API_KEY).id
    old, expired, revoked, new = (make_token(store, project_id=project_id) for _ in range(4))
    other = make_token(store)
    for created_at, token in enumerate((old, expired, revoked, new, other)):
        set_columns(store, "token", token.id, created_at=created_at)
    set_columns(store, "token", expired.id, expires_at=clock.now())
    tokens.revoke(revoked.id)
    assert [token.id for token in tokens.list()] == [other.id, new.id, revoked.id, expired.id, old.id]
    assert [token.id for token in tokens.list(project_id)] == [new.id, revoked.id, expired.id, old.id]
    assert [token.id for token in tokens.list(project_id, active_only=True)] == [new.id, old.id]
    assert tokens.list(UNKNOWN_TOKEN) == []


def test_a_token_is_found_by_its_id_and_by_its_value(store: Store, tokens: Tokens) -> None:
    token = make_token(store)
    assert tokens.get(token.id) == tokens.get(token.value) == token
    assert tokens.update(token.value, {"max_requests": 7}).max_requests == 7
    tokens.revoke(token.value)
    assert not tokens.get(token.id).is_active


@pytest.mark.parametrize("token_id", [UNKNOWN_TOKEN, "", "nonsense", "\0", "x" * 10_000])
def test_an_unknown_token_is_not_found(store: Store, tokens: Tokens, token_id: str) -> None:
    make_token(store)
    with pytest.raises(NotFound):
        tokens.get(token_id)
    with pytest.raises(NotFound):
        tokens.update(token_id, {"is_active": False})
    with pytest.raises(NotFound):
        tokens.revoke(token_id)
    with pytest.raises(NotFound):
        tokens.revoke_all(token_id)


def test_a_token_is_not_found_by_its_lookup(store: Store, tokens: Tokens) -> None:
    token = make_token(store)
    with pytest.raises(NotFound):
        tokens.get(store.vault.lookup(token.value))


def test_an_update_writes_the_named_columns_only(store: Store, tokens: Tokens) -> None:
    token = make_token(store, max_requests=5)
    assert tokens.update(token.id, {}) == token
    assert tokens.update(token.id, {"is_active": False}).max_requests == 5
    assert not tokens.update(token.id, {"max_requests": 6}).is_active
    assert tokens.update(token.id, {"is_active": True}).is_active


SECONDS = clock.SECOND
FUTURE = 2_000_000_000 * SECONDS


@pytest.mark.parametrize("time", [FUTURE, FUTURE + 1, FUTURE + SECONDS - 1])
def test_an_expiry_is_cut_to_the_whole_second(store: Store, tokens: Tokens, time: int) -> None:
    token = make_token(store, expires_at=time)
    assert token.expires_at == tokens.get(token.id).expires_at == FUTURE
    assert tokens.update(token.id, {"expires_at": time + SECONDS}).expires_at == FUTURE + SECONDS


def test_an_expiry_in_the_past_is_rejected_for_a_new_token(store: Store, tokens: Tokens) -> None:
    project_id = Projects(store).create("One", API_KEY).id
    now = store.database.now()
    for time in (0, now - SECONDS, now // SECONDS * SECONDS + 1):  # cut to its second, the last one is over too
        with pytest.raises(InvalidRequest, match="must be in the future"):
            make_token(store, project_id=project_id, expires_at=time)
    assert tokens.list() == []
    assert make_token(store, project_id=project_id, expires_at=now + 3 * SECONDS).expires_at > now
    assert make_token(store, project_id=project_id, expires_at=clock.NEVER).expires_at == clock.NEVER


def test_days_of_an_update_count_from_now(store: Store, tokens: Tokens) -> None:
    token = make_token(store, expires_in_days=1)
    set_columns(store, "token", token.id, created_at=1, expires_at=1)
    before = store.database.now()
    expires_at = tokens.update(token.id, {"expires_in_days": 7}).expires_at
    assert expires_at % SECONDS == 0
    assert before - SECONDS < expires_at - 7 * DAY <= store.database.now()
    assert tokens.update(token.id, {"expires_in_days": 0}).expires_at == clock.NEVER
    with pytest.raises(InvalidRequest, match="beyond the year 9999"):
        tokens.update(token.id, {"expires_in_days": 10**9, "is_active": False})
    assert tokens.get(token.id).is_active


@pytest.mark.parametrize("extension", [{"expires_at": FUTURE}, {"expires_at": clock.NEVER}, {"expires_in_days": 1}])
def test_a_changed_expiry_holds_at_once(store: Store, tokens: Tokens, extension: TokenChanges) -> None:
    token = make_token(store)

    async def change(admission: Admission) -> None:
        await admission.admit(token.value, opening())
        for _ in range(2):
            tokens.update(token.id, {"expires_at": store.database.now() - SECONDS})
            with pytest.raises(TokenExpired):
                await admission.admit(token.value, opening())
            tokens.update(token.id, extension)
            await admission.admit(token.value, opening())

    with admission_of(store) as admission:
        asyncio.run(change(admission))
    assert tokens.get(token.id).request_count == 3


def test_a_token_is_checked_in_the_transaction_that_changes_it(store: Store, tokens: Tokens) -> None:
    token = make_token(store, max_requests=5)
    seen: list[TokenRecord] = []

    def check(record: TokenRecord) -> None:
        seen.append(record)
        with pytest.raises((sqlite3.OperationalError, psycopg.errors.LockNotAvailable)):
            change_elsewhere(store, "token", token.id)

    assert tokens.update(token.value, {"max_requests": 6}, check).max_requests == 6
    assert tokens.update(token.id, {}, check).max_requests == 6
    assert [record.max_requests for record in seen] == [5, 6]


def test_a_check_that_fails_changes_nothing(store: Store, tokens: Tokens) -> None:
    token = make_token(store)

    def check(_: TokenRecord) -> None:
        raise InvalidRequest

    with pytest.raises(InvalidRequest):
        tokens.update(token.id, {"is_active": False}, check)
    with pytest.raises(NotFound):
        tokens.update(UNKNOWN_TOKEN, {"is_active": False}, check)
    assert tokens.get(token.id) == token


def test_an_update_does_not_undo_concurrent_counts(store: Store, tokens: Tokens) -> None:
    token, requests = make_token(store), 200

    async def count(admission: Admission) -> None:
        admits = [asyncio.create_task(admission.admit(token.value, opening())) for _ in range(requests)]
        for number in range(20):
            tokens.update(token.id, {"max_requests": 1000 + number})
            await asyncio.sleep(0)
        await asyncio.gather(*admits)

    with admission_of(store) as admission:
        asyncio.run(count(admission))
    after = tokens.get(token.id)
    assert (after.request_count, after.max_requests) == (requests, 1019)


def test_a_rotated_token_has_a_new_value_and_is_otherwise_the_same(store: Store, tokens: Tokens) -> None:
    token = make_token(store, name="Ann", max_requests=5, rate_limits=[{"requests": 9, "per": "day"}])
    set_columns(store, "token", token.id, request_count=3, last_used_at=1)
    before = tokens.get(token.id)
    rotated = tokens.rotate(token.id)
    assert is_token_value(rotated.value)
    assert rotated.value not in {token.value, token.id}
    assert rotated == dataclasses.replace(before, value=rotated.value, limits=rotated.limits)
    assert [each.used for each in rotated.limits] == [each.used for each in before.limits]
    assert tokens.get(rotated.value).id == token.id
    with pytest.raises(NotFound):
        tokens.get(token.value)
    assert tokens.public_id(token.value) == token.value


def test_the_previous_value_finds_its_token_while_it_works(
    store: Store, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_clock = StoreClock(monkeypatch)
    store_clock.set(FUTURE + 1)
    token = make_token(store, expires_in_days=0)
    rotated = tokens.rotate(token.value, 10)
    assert rotated.previous_expires_at == FUTURE + 11 * SECONDS
    store_clock.set(rotated.previous_expires_at - 1)
    assert tokens.get(token.value) == tokens.get(rotated.value) == rotated
    assert tokens.update(token.value, {"max_requests": 7}).max_requests == 7
    assert tokens.public_id(token.value) == token.id
    store_clock.set(rotated.previous_expires_at)
    assert [record.previous_expires_at for record in tokens.list()] == [None]
    assert tokens.public_id(token.value) == token.value
    for use in (tokens.get, tokens.revoke, tokens.rotate):
        with pytest.raises(NotFound):
            use(token.value)
    assert tokens.get(token.id).is_active


def test_the_previous_value_never_outlives_its_token(
    store: Store, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_clock = StoreClock(monkeypatch)
    store_clock.set(FUTURE)
    token = make_token(store, expires_at=FUTURE + 60 * SECONDS)
    assert tokens.rotate(token.id, 61).previous_expires_at == FUTURE + 60 * SECONDS
    second = tokens.rotate(token.id, 59)
    assert second.previous_expires_at == FUTURE + 59 * SECONDS
    earlier = tokens.update(token.id, {"expires_at": FUTURE + 10 * SECONDS})
    assert earlier.previous_expires_at == FUTURE + 10 * SECONDS
    store_clock.set(FUTURE + 10 * SECONDS)
    assert tokens.get(token.id).previous_expires_at is None
    later = tokens.update(token.id, {"expires_at": clock.NEVER})
    assert later.previous_expires_at == FUTURE + 59 * SECONDS


def test_a_token_that_makes_no_requests_is_not_rotated(
    store: Store, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_clock = StoreClock(monkeypatch)
    token = make_token(store)
    tokens.revoke(token.id)
    with pytest.raises(InactiveNotRotated):
        tokens.rotate(token.id, 5)
    tokens.update(token.id, {"is_active": True})
    store_clock.set(token.expires_at)
    with pytest.raises(ExpiredNotRotated):
        tokens.rotate(token.id, 5)
    with pytest.raises(NotFound):
        tokens.rotate(UNKNOWN_TOKEN)
    assert tokens.get(token.id) == token
    store_clock.set(token.expires_at - 1)
    assert tokens.rotate(token.id, 5).previous_expires_at == token.expires_at


def test_a_token_of_an_inactive_project_is_rotated(store: Store, tokens: Tokens) -> None:
    token = make_token(store)
    Projects(store).update(token.project_id, {"is_active": False})
    assert tokens.rotate(token.id).value != token.value


def test_a_token_is_rotated_in_a_transaction_that_has_locked_it(
    store: Store, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, seal = make_token(store), store.vault.seal_token

    def seal_under_the_lock(token_id: str, value: str) -> bytes:
        with pytest.raises((sqlite3.OperationalError, psycopg.errors.LockNotAvailable)):
            change_elsewhere(store, "token", token.id)
        return seal(token_id, value)

    monkeypatch.setattr(store.vault, "seal_token", seal_under_the_lock)
    assert tokens.rotate(token.id).value != token.value


def test_a_value_that_cannot_be_decrypted_is_replaced(store: Store, tokens: Tokens) -> None:
    token = make_token(store)
    set_columns(store, "token", token.id, sealed_value=b"damaged")
    assert tokens.get(token.id).value == UNREADABLE
    rotated = tokens.rotate(token.id)
    assert tokens.get(rotated.value) == rotated


def test_revoking_twice_raises_nothing(store: Store, tokens: Tokens) -> None:
    token = make_token(store)
    tokens.revoke(token.id)
    tokens.revoke(token.id)
    assert not tokens.get(token.id).is_active


def test_a_bulk_revoke_counts_revoked_and_already_revoked_tokens(store: Store, tokens: Tokens) -> None:
    project_id = Projects(store).create("One", API_KEY).id
    mine = [make_token(store, project_id=project_id) for _ in range(3)]
    other = make_token(store)
    tokens.revoke(mine[0].id)
    first = tokens.revoke_all(project_id)
    assert (first.revoked, first.already_revoked, first.total) == (2, 1, 3)
    second = tokens.revoke_all(project_id)
    assert (second.revoked, second.already_revoked, second.total) == (0, 3, 3)
    assert tokens.list(project_id, active_only=True) == []
    assert tokens.get(other.id).is_active
    empty = Projects(store).create("Empty", API_KEY).id
    assert tokens.revoke_all(empty).total == 0


def test_a_record_does_not_show_the_value(store: Store) -> None:
    token = make_token(store)
    assert token.value not in repr(token)
    assert token.id in repr(token)


@on_sqlite
def test_no_file_of_the_data_folder_holds_a_value_or_a_key(settings: Settings) -> None:
    with opened(settings) as store:
        token = make_token(store)
        rotated = Tokens(store).rotate(token.id, 60)
        Tokens(store).update(token.id, {"max_requests": 1})
        written = {path.name: path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file()}
        assert "llm-proxy.db-wal" in written
        assert token.id.encode() in b"".join(written.values())  # so it was looked at in the right place
    written |= {f"{path.name} closed": path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file()}
    for name, content in written.items():
        for value in (token.value, rotated.value):
            assert value.encode() not in content, name
            assert value.replace("-", "").encode() not in content, name
        assert API_KEY.encode() not in content, name


def test_a_token_is_named_by_its_id_or_its_value(store: Store) -> None:
    token = make_token(store)
    tokens = Tokens(store)
    assert tokens.public_id(token.value) == tokens.public_id(token.id) == token.id
    assert tokens.public_id(UNKNOWN_TOKEN) == UNKNOWN_TOKEN
