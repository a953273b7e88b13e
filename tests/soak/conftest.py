"""The stores of the slow tests, and the site of the tests of balancers: each has a balancer and a token of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.gateway.gateway import Gateway
from support.network.balanced_site import Site
from support.network.balancers import Balancer
from support.network.http_engine import KINDS
from support.stores.postgresql import Server
from support.upstreams.stage import Stage, answer


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine."""
    engine: str = request.param
    return engine


@pytest.fixture(scope="module")
def new_database_url(engine: str, postgresql_server: Server) -> Callable[[], str]:
    """A function that returns the DATABASE_URL of a new store; empty for the default."""
    return postgresql_server.make_database if engine == "postgresql" else str


@pytest.fixture
def database_url(new_database_url: Callable[[], str]) -> str:
    """The DATABASE_URL of a test's own store."""
    return new_database_url()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    stage = Stage()
    with stage.upstream:
        yield stage


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory, stage: Stage) -> Iterator[Gateway]:
    with Gateway.start(tmp_path_factory.mktemp("gateway"), stage.upstream.url, proxies=2) as gateway:
        yield gateway


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, tmp_path: Path, balanced: Gateway, stage: Stage) -> Iterator[Site]:
    stage.act = answer
    nodes = [proxy.port for proxy in balanced.proxies]
    with Balancer.start(request.param, tmp_path, nodes, balanced.manage_port) as balancer:
        stage.heads.clear()
        yield Site(balancer, balanced, stage, balanced.make_token())
