import asyncio
import contextlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import peewee
import pytest
from support.stores.limits import standing
from support.stores.stores import (
    API_KEY,
    changed,
    foreign_connection,
    foreign_lock,
    make_many_tokens,
    make_token,
    opened,
    opening,
    rows,
    set_columns,
)

from store.admission.admission import Admission
from store.database.models import MODELS
from store.encryption.crypto import AssociatedData, KeyRing, Vault, new_key
from store.errors import StartupError, StoreLocked, StoreUnavailable
from store.ledger.ledger import Outcome, Settlement
from store.ledger.usage import Consumption, Metered, Source
from store.management.prices import OwnPrices
from store.management.projects import Projects
from store.management.tokens import UNREADABLE, Tokens
from store.operations import rotation
from store.operations.opening import open_store
from store.operations.rotation import BATCH, SEALED, Rotation, Unreadable
from store.request import Demand, Reading
from store.runtime.settings import Settings
from store.store import Store

OLD, NEW = new_key(), new_key()
ALL_SECRETS = 2


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "PAUSE", 0)


@contextlib.contextmanager
def opened_with(settings: Settings, *keys: str) -> Iterator[Store]:
    with opened(changed(settings, encryption_key=",".join(keys), store_timeout=1)) as store:
        yield store


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """A store that was made with the old key, opened with the new one first."""
    with opened_with(settings, OLD):
        pass
    with opened_with(settings, NEW, OLD) as store:
        yield store


def rotate(store: Store) -> Rotation:
    rotation = Rotation(store)
    for _ in rotation.batches():
        pass
    return rotation


def fill(store: Store, tokens: int) -> list[tuple[str, str]]:
    """Add a project and tokens that are sealed with the old key; return the ids and values of the tokens."""
    project = Projects(store).create("Old", API_KEY)
    with_old = Store(store.database, old_vault(store))
    set_columns(store, "project", project.id, sealed_api_key=with_old.vault.seal_api_key(project.id, API_KEY))
    return make_many_tokens(with_old, project.id, tokens)


def old_vault(store: Store) -> Vault:
    """The vault of a process that knows the old key alone."""
    (sealed,) = store.database.execute("SELECT sealed FROM secret WHERE name = 'token_lookup_key'", ())[0]
    return Vault(KeyRing.parse(OLD), store.vault.ring.decrypt(sealed, AssociatedData.SECRET.of("token_lookup_key")))


def headers(store: Store) -> set[bytes]:
    """Return the headers of all ciphertexts."""
    return {
        bytes(sealed)[:5]
        for column in SEALED
        for (sealed,) in store.database.execute(f"SELECT {column.name} FROM {column.table}", ())  # noqa: S608
    }


def admit(store: Store, value: str) -> str:
    admission = Admission(store)
    try:
        return asyncio.run(admission.admit(value, opening())).api_key
    finally:
        admission.close()


def test_every_column_of_ciphertexts_is_rotated() -> None:
    blobs = {
        (model._meta.table_name, field.column_name)  # noqa: SLF001
        for model in MODELS
        for field in model._meta.sorted_fields  # noqa: SLF001
        if isinstance(field, peewee.BlobField)
    }
    assert {(column.table, column.name) for column in SEALED} == blobs
    assert {column.associated_data for column in SEALED} == set(AssociatedData)


@pytest.mark.parametrize("number", [0, 1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH])
def test_everything_is_encrypted_again_and_decrypts_to_the_same(settings: Settings, store: Store, number: int) -> None:
    made = fill(store, number)
    listed, projects = Tokens(store).list(), Projects(store).list()
    done = rotate(store)
    assert done.resealed == Counter({"project": 1, "token": number, "secret": ALL_SECRETS})
    assert done.unreadable == []
    assert headers(store) == {KeyRing.parse(NEW).first_header}
    with opened_with(settings, NEW) as alone:
        assert (Tokens(alone).list(), Projects(alone).list()) == (listed, projects)
        assert {(token.id, token.value) for token in Tokens(alone).list()} == set(made)
        assert {admit(alone, value) for _, value in made[:3]} <= {API_KEY}
    with pytest.raises(StartupError, match="ENCRYPTION_KEY does not open this store"):
        open_store(changed(settings, encryption_key=OLD))


def test_each_batch_has_a_row_of_the_audit_with_what_was_encrypted_again(store: Store) -> None:
    made = fill(store, BATCH + 1)
    rotate(store)
    rotate(store)
    parts = [row for row in rows(store, "audit") if row["action"] == "encryption_key.rotate"]
    parts.sort(key=lambda row: int(row["changed_at"]))
    assert [row["object_name"] for row in parts] == ["project", "token", "token", "secret"]
    ids = [json.loads(row["ids"]) for row in parts]
    assert sorted(ids[1] + ids[2]) == sorted(token_id for token_id, _ in made)
    assert ids[3] == ["check", "token_lookup_key"]


def test_a_second_rotation_finds_nothing_to_do(store: Store) -> None:
    fill(store, 3)
    rotate(store)
    before = [rows(store, column.table) for column in SEALED]
    assert rotate(store).resealed.total() == 0
    assert [rows(store, column.table) for column in SEALED] == before


def test_a_ring_of_one_key_has_nothing_to_do(settings: Settings) -> None:
    with opened_with(settings, OLD) as store:
        make_token(store)
        assert rotate(store).resealed.total() == 0
        assert not store.vault.ring.has_others


def test_rows_of_several_keys_all_come_under_the_first(settings: Settings, store: Store) -> None:
    fill(store, 2)
    make_token(store)
    third = new_key()
    with opened_with(settings, third, OLD, NEW) as ring:
        assert rotate(ring).resealed == Counter({"project": 2, "token": 3, "secret": ALL_SECRETS})
        assert headers(ring) == {KeyRing.parse(third).first_header}


def test_a_rotation_that_stops_after_any_batch_can_be_resumed(settings: Settings, store: Store) -> None:
    made = fill(store, 3 * BATCH)
    listed = Tokens(store).list()
    for _ in range(5):  # the project, three batches of tokens, the secrets
        next(Rotation(store).batches())
        for ring in ((NEW, OLD), (OLD, NEW)):
            with opened_with(settings, *ring) as again:
                assert Tokens(again).list() == listed
    assert rotate(store).resealed.total() == 0
    with opened_with(settings, NEW) as alone:
        assert admit(alone, made[0][1]) == API_KEY


def test_the_new_key_alone_opens_nothing_before_the_end(settings: Settings, store: Store) -> None:
    fill(store, BATCH)
    for _ in itertools.islice(Rotation(store).batches(), 2):
        with pytest.raises(StartupError, match="ENCRYPTION_KEY does not open this store"):
            open_store(changed(settings, encryption_key=NEW))


def test_a_key_that_is_replaced_during_a_batch_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, 0)
    (project,) = Projects(store).list()
    reseal = store.vault.reseal

    def replaced_meanwhile(column: AssociatedData, row_id: str, sealed: bytes) -> bytes:
        if column is AssociatedData.API_KEY:
            Projects(store).update(project.id, {"api_key": "sk-replaced"})
        return reseal(column, row_id, sealed)

    monkeypatch.setattr(store.vault, "reseal", replaced_meanwhile)
    assert rotate(store).resealed == Counter({"secret": ALL_SECRETS})
    assert api_key(store, project.id) == "sk-replaced"


def test_a_row_that_is_removed_during_a_batch_is_skipped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, 2)
    (project,) = Projects(store).list()
    reseal = store.vault.reseal

    def removed_meanwhile(column: AssociatedData, row_id: str, sealed: bytes) -> bytes:
        if column is AssociatedData.TOKEN and Projects(store).list():
            Projects(store).delete(project.id)
        return reseal(column, row_id, sealed)

    monkeypatch.setattr(store.vault, "reseal", removed_meanwhile)
    assert rotate(store).resealed == Counter({"project": 1, "secret": ALL_SECRETS})


def test_rows_that_another_process_writes_under_an_old_key_are_found(store: Store) -> None:
    fill(store, 2 * BATCH)
    (project,) = Projects(store).list()
    old = old_vault(store)
    done = Rotation(store)
    for number, _ in enumerate(done.batches()):
        if number < 3:  # the project's own batch is over
            sealed = old.seal_api_key(project.id, f"sk-{number}")
            set_columns(store, "project", project.id, sealed_api_key=sealed)
    assert api_key(store, project.id) == "sk-2"
    assert headers(store) == {KeyRing.parse(NEW).first_header}
    assert done.resealed == Counter({"project": 2, "token": 2 * BATCH, "secret": ALL_SECRETS})


def test_rows_that_cannot_be_decrypted_are_named_and_kept_and_stop_nothing(store: Store) -> None:
    made = fill(store, 2 * BATCH)
    (project,) = Projects(store).list()
    old, foreign = old_vault(store), Vault(KeyRing.parse(new_key()), b"")
    flipped = bytearray(old.seal_token(made[0][0], made[0][1]))
    flipped[-1] ^= 1
    damage = {
        made[0][0]: bytes(flipped),
        made[1][0]: b"",
        made[2][0]: b"\x01",
        made[3][0]: old.seal_token(made[4][0], made[4][1]),
        made[5][0]: foreign.seal_token(made[5][0], made[5][1]),
    }
    for token_id, sealed in damage.items():
        set_columns(store, "token", token_id, sealed_value=sealed)
    set_columns(store, "project", project.id, sealed_api_key=foreign.seal_api_key(project.id, API_KEY))

    done = rotate(store)
    assert done.resealed == Counter({"token": 2 * BATCH - len(damage), "secret": ALL_SECRETS})
    assert {(row.table, row.row_id) for row in done.unreadable} == {
        ("project", project.id),
        *(("token", token_id) for token_id in damage),
    }
    no_key = "The key that encrypted this is not in ENCRYPTION_KEY."
    assert Unreadable("token", made[5][0], no_key) in done.unreadable
    assert [row for row in Tokens(store).list() if row.value == UNREADABLE and row.id not in damage] == []
    for token_id, sealed in damage.items():
        assert store.database.execute("SELECT sealed_value FROM token WHERE id = ?", [token_id]) == [(sealed,)]

    again = rotate(store)
    assert (again.resealed.total(), again.unreadable) == (0, done.unreadable)
    Projects(store).update(project.id, {"api_key": API_KEY})
    assert len(rotate(store).unreadable) == len(damage)


def test_a_locked_store_ends_a_rotation_and_keeps_the_batches_done(store: Store) -> None:
    fill(store, BATCH)
    done = Rotation(store)
    batches = done.batches()
    next(batches)
    with foreign_lock(store), pytest.raises(StoreLocked):
        next(batches)
    assert done.resealed == Counter({"project": 1})
    assert rotate(store).resealed == Counter({"token": BATCH, "secret": ALL_SECRETS})


FAULT = {
    "sqlite": [
        "CREATE TRIGGER fault BEFORE UPDATE ON token WHEN new.id = '{}' BEGIN SELECT raise(ABORT, 'no'); END",
    ],
    "postgresql": [
        "CREATE FUNCTION fault() RETURNS trigger AS $$ BEGIN RAISE 'no'; END $$ LANGUAGE plpgsql",
        "CREATE TRIGGER fault BEFORE UPDATE ON token FOR EACH ROW WHEN (new.id = '{}') EXECUTE FUNCTION fault()",
    ],
}


def test_a_batch_that_fails_is_not_written_and_not_counted(store: Store, engine: str) -> None:
    made = fill(store, BATCH)
    last = max(token_id for token_id, _ in made)
    with foreign_connection(store) as connection:
        for statement in FAULT[engine]:
            connection.execute(statement.format(last))
    done = Rotation(store)
    with pytest.raises(StoreUnavailable):
        for _ in done.batches():
            pass
    assert done.resealed == Counter({"project": 1})
    with store.database.write():
        store.database.run("DROP TRIGGER fault" + (" ON token" if engine == "postgresql" else ""))
    assert rotate(store).resealed == Counter({"token": BATCH, "secret": ALL_SECRETS})


def test_what_limits_have_counted_is_kept(store: Store) -> None:
    """And what they hold for a request that runs is let go after the rotation."""
    token_id, value = fill(store, 1)[0]
    Tokens(store).update(token_id, {"budgets": [{"usd": "1", "per": "total"}]})
    OwnPrices(store).set({"input": Decimal(1)}, model="priced")
    admission = Admission(store)
    asked = opening()._replace(reading=Reading(("priced",), demand=Demand(7)))
    opened = asyncio.run(admission.admit(value, asked)).opened
    before = (rows(store, "balance"), rows(store, "slot"))
    rotate(store)
    assert (rows(store, "balance"), rows(store, "slot")) == before
    used = Metered(Source.OBSERVED, (Consumption("priced", {"input_tokens": 3, "output_tokens": 0}),), "priced")
    asyncio.run(settled(admission, Settlement(opened, Outcome(200, duration_ms=1), used)))
    admission.close()
    assert standing(store, token_id, "usd/total") == (3_000_000, 0)


async def settled(admission: Admission, settlement: Settlement) -> None:
    admission.settle(settlement)


def test_concurrent_counts_are_not_undone(store: Store) -> None:
    made = fill(store, BATCH)
    for number, _ in enumerate(Rotation(store).batches(), start=1):
        assert admit(store, made[0][1]) == API_KEY
        assert Tokens(store).get(made[0][0]).request_count == number


def api_key(store: Store, project_id: str) -> str:
    ((sealed,),) = store.database.execute("SELECT sealed_api_key FROM project WHERE id = ?", [project_id])
    return store.vault.open_api_key(project_id, sealed)
