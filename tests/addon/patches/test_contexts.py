from collections.abc import Iterator

import pytest
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.options import Options
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import TCPLayer

from addon.patches import contexts

THEIRS = Context.fork


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    Context.fork = THEIRS  # type: ignore[method-assign]


def test_a_copy_is_the_one_that_mitmproxy_makes() -> None:
    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), state=ConnectionState.OPEN)
    context = Context(client, Options())
    TCPLayer(context)
    theirs = context.fork()
    contexts.install()
    ours = context.fork()
    assert type(ours) is type(theirs)
    assert vars(ours) == vars(theirs)
    assert ours.layers is not context.layers
