import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.network.tcp_relay import TcpRelay
from support.stores import lock_order
from support.stores.databases import Databases
from support.stores.postgresql import Server
from support.stores.stores import make_settings, opened

from store import schema
from store.database import open_database
from store.runtime.settings import Settings
from store.store import Store

ENGINES = ("sqlite", "postgresql")


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.lower() in Settings.model_fields]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def locks_out_of_order() -> Iterator[list[tuple[str, ...]]]:
    """The transactions of the test that locked rows out of order: there must be none."""
    with lock_order.recorded() as out_of_order:
        yield out_of_order
    assert out_of_order == []


@pytest.fixture(scope="session")
def migrated(postgresql_server: Server) -> str:
    """The name of a PostgreSQL database with all tables, and nothing in them: to be copied."""
    url = postgresql_server.make_database()
    database = open_database(url, 2)
    schema.migrate(database)
    database.close()
    return url.rpartition("/")[2]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine."""
    engine: str = request.param
    return engine


@pytest.fixture(scope="session")
def databases(postgresql_server: Server, migrated: str) -> Databases:
    return Databases(postgresql_server, migrated)


@pytest.fixture
def database_url(engine: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The DATABASE_URL of a new store; empty for SQLite's default, a database without secrets for PostgreSQL."""
    if engine == "sqlite":
        yield ""
        return
    databases: Databases = request.getfixturevalue("databases")
    with databases.one() as url:
        yield url


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return make_settings(tmp_path, database_url=database_url)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with opened(settings) as store:
        yield store


@pytest.fixture
def relay(postgresql_server: Server) -> Iterator[TcpRelay]:
    """A network between the store and PostgreSQL."""
    with TcpRelay(postgresql_server.port) as relay:
        yield relay


@pytest.fixture
def far_store(tmp_path: Path, relay: TcpRelay, postgresql_server: Server, migrated: str) -> Iterator[Store]:
    """A store on PostgreSQL behind `relay`."""
    name = postgresql_server.make_database(migrated).rpartition("/")[2]
    url = postgresql_server.url(name, port=relay.port)
    with opened(make_settings(tmp_path, database_url=url)) as store:
        yield store
