"""The upstream and databases of all contestants, and the folder, tokens and process that each has of its own."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn, Self

from support.gateway.gateway import Gateway
from support.gateway.installation import children
from support.gateway.processes import ROOT, Process, clean_environment, free_port, listens, python, running, wait_until
from support.network.certificates import Authority
from support.stores.postgresql import Server
from support.stores.stores import API_KEY, UNKNOWN_TOKEN

from store.limits.rate_limits import Limits
from store.management.projects import Projects
from store.management.tokens import Tokens

IMPORTS = {"PYTHONPATH": str(ROOT / "tests")}
"""The environment of processes that run parts of this package."""

_HIGH_LIMIT = 10**9
_BUDGETS = Limits(
    budgets=[{"usd": "1000000", "per": "day"}, {"usd": "1000000", "per": "month"}],
    rate_limits=[{"tokens": 10**12, "per": "minute"}],
)


class Limited(NamedTuple):
    """The limits of a token and of its project, all so high that none refuses."""

    token: Limits = Limits()
    project: Limits = Limits()


LIMITS = Limited(
    Limits(
        rate_limits=[{"requests": _HIGH_LIMIT, "per": "second"}, {"requests": _HIGH_LIMIT, "per": "minute"}],
        max_parallel_requests=_HIGH_LIMIT,
    ),
    Limits(rate_limits=[{"requests": _HIGH_LIMIT, "per": "day"}], max_parallel_requests=_HIGH_LIMIT),
)
BUDGETS = Limited(_BUDGETS, _BUDGETS)


class Credentials(NamedTuple):
    """A token with a high limit, and one with a limit of a single request."""

    token: str
    small: str

    @classmethod
    def make(cls, gateway: Gateway, limited: Limited = Limited()) -> Self:  # noqa: B008 - it does not change
        """Make both in a store, with further limits."""
        with gateway.store() as store:
            project_id = Projects(store).create("Benchmark", API_KEY, **limited.project).id
            tokens = Tokens(store)
            return cls(
                *(tokens.create(project_id, max_requests=limit, **limited.token).value for limit in (_HIGH_LIMIT, 1))
            )


NO_CREDENTIALS = Credentials(UNKNOWN_TOKEN, UNKNOWN_TOKEN)
"""The credentials of contestants that check none."""


def _no_server() -> NoReturn:
    raise RuntimeError("a site without PostgreSQL")


@dataclass(frozen=True)
class Running:
    """A process that has been started. `has_workers`: its children serve, not the process itself.

    `says`: the text that it prints once it serves; without one it serves once it answers on its port. `settles`:
    seconds that it is left alone once it listens. A request that comes before the addons of mitmdump run ends it, and
    nothing reports that they do.
    """

    process: Process
    port: int
    credentials: Credentials = NO_CREDENTIALS
    has_workers: bool = False
    says: str = ""
    settles: float = 0.0

    def wait(self) -> None:
        """Return once it serves. Raises AssertionError where it ends before."""
        if self.says:
            self.process.wait_for_output(self.says)
            return
        if self.settles:
            wait_until(lambda: listens(self.port))
            time.sleep(self.settles)
        self.process.wait_for_port(self.port)

    def pids(self) -> Sequence[int]:
        """Return the processes that serve."""
        return children(self.process.pid) if self.has_workers else [self.process.pid]


@dataclass(frozen=True)
class Site:
    """An upstream, its authority where it speaks TLS, and a PostgreSQL, which starts when it is first asked for."""

    folder: Path
    upstream: Running
    server: Callable[[], Server]
    authority: Authority | None = None
    log_level: str = "warning"

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: Path,
        server: Callable[[], Server] = _no_server,
        *,
        tls: bool = False,
        log_level: str = "warning",
        upstream_options: Sequence[str] = (),
    ) -> Iterator[Self]:
        """Make the folder, and run an upstream until the block ends."""
        folder.mkdir()
        port, authority, options = free_port(), None, [*upstream_options]
        if tls:
            authority = Authority(folder)
            authority.server("localhost")
            options += ["--certificate", str(folder / "localhost-False.pem")]
        command = python("-m", "benchmarks.bench.upstream", "--port", str(port), *options)
        process = Process(command, env={**clean_environment(), **IMPORTS}, log=folder / "upstream.log")
        with running(process):
            upstream = Running(process, port, says="serves")
            upstream.wait()
            yield cls(folder, upstream, server, authority, log_level)

    @property
    def url(self) -> str:
        """The URL of the upstream."""
        return f"https://localhost:{self.upstream.port}" if self.authority else f"http://127.0.0.1:{self.upstream.port}"

    def place(self, name: str, *, on_postgresql: bool = False) -> Gateway:
        """Make the folder, the environment and, on PostgreSQL, the database of a contestant; nothing runs there yet."""
        folder = self.folder / name
        folder.mkdir()
        database_url = self.server().make_database() if on_postgresql else ""
        settings = {"LOG_LEVEL": self.log_level, "LOG_FORMAT": "json"}
        gateway = Gateway(folder, self.url, database_url=database_url, **settings)
        if self.authority is not None:
            for own in (gateway.data / "mitmproxy", folder / ".mitmproxy"):  # the launcher's, and mitmdump's
                (own / "config.yaml").write_text(f"ssl_verify_upstream_trusted_ca: {self.authority.file}\n")
        return gateway
