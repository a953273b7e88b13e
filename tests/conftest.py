"""What all tests share: how the workers divide them, a PostgreSQL, and certificates that are read once."""

import functools
from collections.abc import Iterator

import httpx
import pytest
from support.stores.postgresql import QUICK, Server
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

SHARING = frozenset(
    f"tests/functional/test_{name}.py"
    for name in (
        *("answers", "damaged_rows", "exactness", "faithful", "large_bodies", "obeyed_at_once", "only_v1"),
        *("reserved_endpoints", "sdk", "streaming", "tokens"),
    )
)
"""The files whose tests share the gateways of functional/conftest.py. One that is missing here only costs time."""


class _SharingTogether(LoadFileScheduling):  # type: ignore[misc] # it has no types
    """Gives each file to one worker as a whole; and so all that share gateways, which start once then."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "shared gateways" if file in SHARING else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    return _SharingTogether(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what starts processes: a long file that came last would leave one worker without work."""
    items.sort(key=lambda item: "functional" not in item.path.parts)


@pytest.fixture(scope="session", autouse=True)
def _authorities_are_read_once() -> Iterator[None]:
    """httpx reads all authorities for each client anew, which takes 20 ms; the tests make thousands of clients."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", functools.cache(httpx.create_ssl_context))
        yield


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """A PostgreSQL for the tests of one worker; each test makes a database of its own."""
    with Server.running(*QUICK) as server:
        yield server
