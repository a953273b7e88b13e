"""The pools of docs/deploy, started for real: with those files, and ports, paths and an authority of the test's."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from support.gateway.processes import Process, clean_environment, free_port, listens, running, wait_until
from support.network.certificates import Authority
from support.network.http_engine import HttpEngine, Kind
from support.network.name_server import NameServer
from support.upstreams.secure_stage import ADDRESSES

FILES: Mapping[Kind, str] = {"nginx": "upstream-pool.nginx.conf", "haproxy": "upstream-pool.haproxy.cfg"}
NAME = "api.openai.com"
"""The upstream's in those files; no name server but the test's own is asked for it."""


class Pool(HttpEngine):
    """A pool on `port` before an upstream that has the same port on each of its `addresses`."""

    def __init__(
        self,
        kind: Kind,
        folder: Path,
        authority: Authority,
        upstream: int,
        addresses: Sequence[str],
        changes: Mapping[str, str],
    ) -> None:
        super().__init__(kind, folder, FILES[kind], changes)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.names = NameServer(addresses)
        self._authority = authority
        self._upstream = upstream
        self.configure()

    @classmethod
    @contextlib.contextmanager
    def start(
        cls,
        kind: Kind,
        folder: Path,
        authority: Authority,
        upstream: int,
        *,
        addresses: Sequence[str] = ADDRESSES,
        changes: Mapping[str, str] | None = None,
    ) -> Iterator[Self]:
        """Run a pool until the block ends; `changes` are made to its file, too."""
        pool = cls(kind, folder, authority, upstream, addresses, changes or {})
        process = Process(pool.command(), env=clean_environment(), log=folder / "access.log")
        with pool.names, running(process):
            wait_until(lambda: listens(pool.port))
            pool.process = process
            yield pool

    def move(self, *addresses: str) -> None:
        """Give the upstream other addresses from now on, and take the steps of docs/connection-pool.md for that."""
        self.names.addresses = list(addresses)
        if self.kind == "nginx":
            self.configure()
            self.reload()

    def _own(self) -> dict[str, str]:
        return {
            "127.0.0.1:943": f"127.0.0.1:{self.port}",
            "/etc/ssl/certs/ca-certificates.crt": str(self._authority.file),
            **(self._of_haproxy() if self.kind == "haproxy" else self._of_nginx()),
        }

    def _of_haproxy(self) -> dict[str, str]:
        return {
            f"{NAME}:443": f"{NAME}:{self._upstream}",
            "    parse-resolv-conf\n": f"    nameserver test 127.0.0.1:{self.names.port}\n",
        }

    def _of_nginx(self) -> dict[str, str]:
        server = f"        server {NAME}:443 max_fails=0;"
        servers = (server.replace(f"{NAME}:443", f"{address}:{self._upstream}") for address in self.names.addresses)
        return {server: "\n".join(servers)}
