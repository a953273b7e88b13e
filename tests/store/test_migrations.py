"""Stores of older versions, with data in them, are upgraded by opening them."""

import asyncio
from typing import TYPE_CHECKING

import pytest
from playhouse.migrations import Runner
from support.processes import ROOT
from support.stores import opened, opening, set_columns

from store import bootstrap, schema
from store.admission import Admission
from store.bootstrap import Store
from store.database import open_database
from store.models import Request
from store.projects import Projects
from store.settings import Settings
from store.tokens import Tokens
from store.usage import Source

if TYPE_CHECKING:
    from support.postgresql import Server

KEY = "sk-upstream-key-of-the-unit-tests-0123456789"


@pytest.fixture
def database_url(engine: str, request: pytest.FixtureRequest) -> str:
    """The URL of a database without tables."""
    if engine == "sqlite":
        return ""
    server: Server = request.getfixturevalue("postgresql_server")
    return server.make_database()


def make_old_store(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a store as version 0.1's first migration has it, with a token that was used 5 times. Returns the token."""
    bootstrap.prepare_folder(settings.data_dir)
    database = open_database(settings.store_url, settings.store_timeout)
    Runner(database.engine, str(ROOT / "store" / "migrations")).up("0001_initial")
    database.close()
    with monkeypatch.context() as patch:
        patch.setattr(schema, "migrate", lambda _: None)
        with opened(settings) as store:
            return _fill(store)


def _fill(store: Store) -> str:
    project = Projects(store).create("Old", KEY)
    token_id, value = "8f14e45f-ceea-4672-9c6d-4cf0d7a1b5e1", "6fd5ce84-0efa-4d8d-9dbd-8de4ab5e8b1b"
    with store.database.write():
        store.database.execute(
            "INSERT INTO token (id, project_id, lookup, sealed_value, is_active, request_count, max_requests,"
            " created_at, expires_at) VALUES (?, ?, ?, ?, TRUE, 5, 7, 1, ?)",
            (token_id, project.id, store.vault.lookup(value), store.vault.seal_token(token_id, value), 2**60),
        )
    return value


def test_what_was_counted_before_the_ledger_is_its_opening_balance(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = make_old_store(settings, monkeypatch)
    with opened(settings) as store:
        token = Tokens(store).get(value)
        assert (token.value, token.request_count, token.max_requests) == (value, 5, 7)
        admission = Admission(store)
        asyncio.run(admission.admit(value, opening()))
        admission.close()
        ((opening_count, request_count),) = store.database.execute("SELECT opening_count, request_count FROM token", ())
        with store.database.read():
            rows = list(Request.select())
        assert [row.usage_source for row in rows] == [Source.UNKNOWN]
        assert opening_count + len(rows) == request_count == 6
        assert {index.name for index in store.database.engine.get_indexes("token")} >= {
            "token_lookup",
            "token_project_id",
        }


def test_new_tokens_have_no_opening_balance(settings: Settings) -> None:
    with opened(settings) as store:
        project = Projects(store).create("New", KEY)
        token = Tokens(store).create(project.id)
        set_columns(store, "token", token.id, request_count=3)
        assert store.database.execute("SELECT opening_count FROM token", ()) == [(0,)]
