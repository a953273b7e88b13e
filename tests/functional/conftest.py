"""Gateways that several tests share: each test makes its own tokens."""

from collections.abc import Iterator

import pytest
from support.gateway import WAYS, Gateway, Way
from support.relay import Relay
from support.upstreams import DemoUpstream, RawUpstream, answer_all


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoUpstream]:
    """The demo upstream, for tests that clear or count nothing."""
    with DemoUpstream.start(tmp_path_factory.mktemp("upstream")) as upstream:
        yield upstream


@pytest.fixture(scope="session", params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """Each of the three ways to start the proxy."""
    way: Way = request.param
    return way


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, upstream: DemoUpstream, way: Way) -> Iterator[Gateway]:
    """A gateway before the demo upstream, started in each of the three ways."""
    with Gateway.start(tmp_path_factory.mktemp(way), upstream.url, way=way) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def relay(tmp_path_factory: pytest.TempPathFactory, way: Way) -> Iterator[Relay]:
    """A gateway before a raw upstream, started in each of the three ways."""
    folder = tmp_path_factory.mktemp(way)
    with RawUpstream(answer_all()) as upstream, Gateway.start(folder, upstream.url, way=way) as gateway:
        yield Relay(gateway, upstream)
