"""What every kind of test may ask for."""

from collections.abc import Iterator

import pytest
from support.postgresql import QUICK, Server


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """A PostgreSQL for the tests of one worker; each test makes a database of its own."""
    with Server.running(*QUICK) as server:
        yield server
