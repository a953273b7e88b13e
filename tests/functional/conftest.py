"""Gateways that several tests share. Each starts once, when a test first needs it. Each test makes its own tokens."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import pytest
from support.gateway.gateway import EACH_PATH, EACH_WAY, Gateway, Way
from support.gateway.relay import Relay
from support.stores.postgresql import Server
from support.upstreams.upstreams import DemoUpstream, RawUpstream, answer_all


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoUpstream]:
    """The demo upstream. A test that counts its requests clears them first."""
    with DemoUpstream.start(tmp_path_factory.mktemp("upstream")) as upstream:
        yield upstream


@pytest.fixture(scope="session", autouse=True, params=EACH_PATH)
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """The plain path; in a soak run, the layers too. It holds for each gateway that a test starts.

    A fixture with gateways for several tests must ask for it, so that it ends with the path.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAIN_PATH", request.param)
        yield request.param


@pytest.fixture(scope="session", params=EACH_WAY)
def way(request: pytest.FixtureRequest) -> Way:
    """The launcher; in a soak run, mitmdump and mitmweb."""
    way: Way = request.param
    return way


@pytest.fixture(scope="session")
def gateways(
    tmp_path_factory: pytest.TempPathFactory, upstream: DemoUpstream, path: str
) -> Iterator[Callable[[Way], Gateway]]:
    with contextlib.ExitStack() as stopped, contextlib.ExitStack() as stopping:

        @functools.cache
        def started(way: Way) -> Gateway:
            folder = tmp_path_factory.mktemp(way)
            gateway = stopped.enter_context(Gateway.start(folder, upstream.url, way=way, proxies=2, PLAIN_PATH=path))
            stopping.callback(gateway.begin_stop)
            return gateway

        yield started


@pytest.fixture(scope="session")
def nodes(
    tmp_path_factory: pytest.TempPathFactory, upstream: DemoUpstream, postgresql_server: Server, path: str
) -> Iterator[Gateway]:
    """Four proxies and two management APIs before the demo upstream, on one PostgreSQL."""
    with Gateway.start(
        tmp_path_factory.mktemp("nodes"),
        upstream.url,
        proxies=4,
        database_url=postgresql_server.make_database(),
        LOG_LEVEL="warning",
        PLAIN_PATH=path,
    ) as gateway:
        gateway.add_management()
        yield gateway


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """SQLite, unless a test is for each store."""
    return getattr(request, "param", "sqlite")


@pytest.fixture
def gateway(request: pytest.FixtureRequest, way: Way, engine: str) -> Gateway:
    """A gateway with several proxies before the demo upstream."""
    if engine == "postgresql":
        nodes: Gateway = request.getfixturevalue("nodes")
        return nodes
    gateways: Callable[[Way], Gateway] = request.getfixturevalue("gateways")
    return gateways(way)


@pytest.fixture
def database_url(engine: str, request: pytest.FixtureRequest) -> str:
    """The DATABASE_URL of a new store; empty for the default."""
    if engine == "sqlite":
        return ""
    server: Server = request.getfixturevalue("postgresql_server")
    return server.make_database()


@pytest.fixture(scope="session")
def relays(tmp_path_factory: pytest.TempPathFactory, path: str) -> Iterator[Callable[[Way], Relay]]:
    with contextlib.ExitStack() as stopped, contextlib.ExitStack() as stopping:

        @functools.cache
        def started(way: Way) -> Relay:
            upstream = stopped.enter_context(RawUpstream(answer_all()))
            folder = tmp_path_factory.mktemp(way)
            gateway = stopped.enter_context(Gateway.start(folder, upstream.url, way=way, PLAIN_PATH=path))
            stopping.callback(gateway.begin_stop)
            return Relay(gateway, upstream)

        yield started


@pytest.fixture
def relay(relays: Callable[[Way], Relay], way: Way) -> Relay:
    """A gateway before a raw upstream."""
    return relays(way)
