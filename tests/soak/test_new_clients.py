"""The cost of a new client's first request to an upstream with TLS: straight to it, and through each pool.

A new client gets a kept connection to the upstream: it waits for no handshake, and a pool gains it nothing.

`./run.sh soak -s tests/soak/test_new_clients.py` prints it. All ways take turns; latency is from the client's connect
to the end of its response, CPU that of the processes themselves.
"""

import contextlib
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.clients.kept_alive import KeptAlive
from support.gateway.gateway import Gateway
from support.gateway.processes import Process, wait_until
from support.load.processors import cpu_seconds
from support.network.certificates import Authority
from support.network.distance import Distance
from support.network.http_engine import KINDS, Kind
from support.network.upstream_pool import NAME, Pool
from support.upstreams.secure_stage import SecureStage

pytestmark = pytest.mark.soak("addon/layers", "addon/patches", "docs/deploy")

ROUNDS = 7
CLIENTS = 100
"""Clients in a round of each way."""
HANDSHAKE = 3.0
"""Milliseconds of a TLS handshake with an upstream on this machine, at least."""
GAIN = 0.75
"""The ratio of the latencies with a pool and without it, from which on a pool gains nothing: they differ by chance."""
HOME = "127.0.0.1"


@dataclass
class Way:
    """A way to the upstream, with its figures, one entry a round: milliseconds, of CPU for a client."""

    name: str
    gateway: Gateway
    pool: Process | None = None
    kept: bool = False
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    gateways_cpu: list[float] = field(default_factory=list)
    pools_cpu: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._token: str = self.gateway.make_token()["token"]

    def measure(self) -> None:
        """Add a round."""
        before = self._cpu()
        latencies = sorted(self._ask_kept() if self.kept else self._ask_anew())
        after = self._cpu()
        self.p50.append(statistics.median(latencies) * 1000)
        self.p99.append(statistics.quantiles(latencies, n=100)[98] * 1000)
        self.gateways_cpu.append((after[0] - before[0]) / CLIENTS * 1000)
        self.pools_cpu.append((after[1] - before[1]) / CLIENTS * 1000)

    def answers(self) -> bool:
        """Return True once the way is open; HAProxy does not have the address at once."""
        with KeptAlive(self.gateway.url) as client:
            return client.get(self._token) == 200

    def row(self, first: "Way") -> str:
        """Write the medians, and the ratios to those of another way."""
        figures = (self.p50, self.p99, self.gateways_cpu, self.pools_cpu)
        medians = " ".join(f"{statistics.median(figure):8.2f}" for figure in figures)
        ratios = (ratio(self.p50, first.p50), ratio(self.gateways_cpu, first.gateways_cpu))
        return f"{self.name:14} {medians} {ratios[0]:8.2f} {ratios[1]:8.2f}"

    def _ask_anew(self) -> Iterator[float]:
        for _ in range(CLIENTS):
            start = time.perf_counter()
            with KeptAlive(self.gateway.url) as client:
                assert client.get(self._token) == 200
            yield time.perf_counter() - start

    def _ask_kept(self) -> Iterator[float]:
        with KeptAlive(self.gateway.url) as client:
            client.get(self._token)
            for _ in range(CLIENTS):
                start = time.perf_counter()
                assert client.get(self._token) == 200
                yield time.perf_counter() - start

    def _cpu(self) -> tuple[float, float]:
        return cpu_seconds(self.gateway.proxies[0].process.pid), cpu_seconds(self.pool.pid) if self.pool else 0.0


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


@contextlib.contextmanager
def straight(folder: Path, round_trip: float) -> Iterator[Gateway]:
    """Run a gateway that opens connections to the upstream itself."""
    authority = Authority(folder)
    (folder / "data" / "mitmproxy").mkdir(parents=True)
    (folder / "data" / "mitmproxy" / "config.yaml").write_text(f"ssl_verify_upstream_trusted_ca: {authority.file}\n")
    with (
        SecureStage(authority.server("localhost")) as api,
        Distance(api.port, round_trip) as distance,
        Gateway.start(folder, f"https://localhost:{distance.port}", LOG_LEVEL="warning") as gateway,
    ):
        yield gateway


@contextlib.contextmanager
def through(kind: Kind, folder: Path, round_trip: float) -> Iterator[tuple[Gateway, Process]]:
    """Run a gateway with a pool."""
    authority = Authority(folder)
    with (
        SecureStage(authority.server(NAME)) as api,
        Distance(api.port, round_trip) as distance,
        Pool.start(kind, folder, authority, distance.port, addresses=[HOME]) as pool,
        Gateway.start(folder, pool.url, LOG_LEVEL="warning") as gateway,
    ):
        yield gateway, pool.process


@pytest.mark.parametrize("round_trip", [0.0, 0.02], ids=["here", "20 ms away"])
def test_a_new_client_pays_no_handshake(round_trip: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    with contextlib.ExitStack() as running:
        gateway = running.enter_context(straight(tmp_path_factory.mktemp("straight"), round_trip))
        ways = [Way("straight", gateway), Way("straight, kept", gateway, kept=True)]
        for kind in KINDS:
            pooled, pool = running.enter_context(through(kind, tmp_path_factory.mktemp(kind), round_trip))
            ways += [Way(kind, pooled, pool), Way(f"{kind}, kept", pooled, pool, kept=True)]
        for way in ways:
            wait_until(way.answers)
        for _ in range(ROUNDS):
            for way in ways:
                way.measure()
    print(f"\nupstream {round_trip * 1000:.0f} ms away; medians of {ROUNDS} rounds of {CLIENTS} clients, milliseconds")
    print(f"{'':14} {'p50':>8} {'p99':>8} {'CPU':>8} {'pool CPU':>8} {'p50 by':>8} {'CPU by':>8}")
    for way in ways:
        print(way.row(ways[0]))
    straight_to_it, kept, *pooled_ways = ways
    longer = [new - other for new, other in zip(straight_to_it.p50, kept.p50, strict=True)]
    assert statistics.median(longer) < max(round_trip * 1000, HANDSHAKE)
    for way in pooled_ways:
        assert way.kept or ratio(way.p50, straight_to_it.p50) > GAIN
