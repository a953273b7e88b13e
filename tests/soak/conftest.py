"""The stores of the slow tests."""

from collections.abc import Callable

import pytest
from support.postgresql import Server


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine."""
    engine: str = request.param
    return engine


@pytest.fixture(scope="module")
def new_database_url(engine: str, postgresql_server: Server) -> Callable[[], str]:
    """What returns the DATABASE_URL of a new store; empty for the default."""
    return postgresql_server.make_database if engine == "postgresql" else str


@pytest.fixture
def database_url(new_database_url: Callable[[], str]) -> str:
    """The DATABASE_URL of a test's own store."""
    return new_database_url()
