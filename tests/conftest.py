"""What all tests share: an order that keeps both workers busy to the end, and certificates that are read once."""

import functools
from collections.abc import Iterator

import httpx
import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what starts processes: a long file that came last would leave one worker without work."""
    items.sort(key=lambda item: "functional" not in item.path.parts)


@pytest.fixture(scope="session", autouse=True)
def _authorities_are_read_once() -> Iterator[None]:
    """httpx reads all authorities for each client anew, which takes 20 ms; the tests make thousands of clients."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", functools.cache(httpx.create_ssl_context))
        yield
