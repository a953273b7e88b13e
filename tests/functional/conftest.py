"""Gateways that several tests share, each started once, when it is first asked for. Each test makes its own tokens."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import pytest
from support.gateway import WAYS, Gateway, Way
from support.relay import Relay
from support.upstreams import DemoUpstream, RawUpstream, answer_all


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoUpstream]:
    """The demo upstream. Who counts its requests clears them first."""
    with DemoUpstream.start(tmp_path_factory.mktemp("upstream")) as upstream:
        yield upstream


@pytest.fixture(scope="session", params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """Each of the three ways to start the proxy."""
    way: Way = request.param
    return way


@pytest.fixture(scope="session")
def gateways(tmp_path_factory: pytest.TempPathFactory, upstream: DemoUpstream) -> Iterator[Callable[[Way], Gateway]]:
    with contextlib.ExitStack() as stopped, contextlib.ExitStack() as told_to_stop:

        @functools.cache
        def started(way: Way) -> Gateway:
            folder = tmp_path_factory.mktemp(way)
            gateway = stopped.enter_context(Gateway.start(folder, upstream.url, way=way, proxies=2))
            told_to_stop.callback(gateway.tell_to_stop)
            return gateway

        yield started


@pytest.fixture
def gateway(gateways: Callable[[Way], Gateway], way: Way) -> Gateway:
    """A gateway with two proxies before the demo upstream, started in each of the three ways."""
    return gateways(way)


@pytest.fixture(scope="session")
def relays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Way], Relay]]:
    with contextlib.ExitStack() as stopped, contextlib.ExitStack() as told_to_stop:

        @functools.cache
        def started(way: Way) -> Relay:
            upstream = stopped.enter_context(RawUpstream(answer_all()))
            gateway = stopped.enter_context(Gateway.start(tmp_path_factory.mktemp(way), upstream.url, way=way))
            told_to_stop.callback(gateway.tell_to_stop)
            return Relay(gateway, upstream)

        yield started


@pytest.fixture
def relay(relays: Callable[[Way], Relay], way: Way) -> Relay:
    """A gateway before a raw upstream, started in each of the three ways."""
    return relays(way)
