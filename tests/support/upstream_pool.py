"""The pools of docs/deploy, started for real: with those files, and ports, paths and an authority of the test's."""

import contextlib
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from support.balancers import DEPLOY, Kind, replaced, require
from support.certificates import Authority
from support.installation import children
from support.name_server import NameServer
from support.processes import Process, clean_environment, free_port, running, wait_until
from support.secure_stage import ADDRESSES

FILES: Mapping[Kind, str] = {"nginx": "upstream-pool.nginx.conf", "haproxy": "upstream-pool.haproxy.cfg"}
NAME = "api.openai.com"
"""The upstream's in those files; no name server but the test's own is asked for it."""


class Pool:
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
        folder.chmod(0o755)  # nginx's workers are somebody else where root runs the tests
        self.kind = kind
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.names = NameServer(addresses)
        self.process: Process
        self._authority = authority
        self._upstream = upstream
        self._changes = changes
        self._program = require(kind)
        self._config = folder / f"{kind}.conf"
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
            wait_until(pool._listens)
            pool.process = process
            yield pool

    def command(self) -> list[str]:
        """Return what starts it in the foreground."""
        if self.kind == "haproxy":
            return [self._program, "-W", "-db", "-f", str(self._config)]
        return [self._program, "-p", str(self.folder), "-c", str(self._config), "-g", "daemon off;"]

    def configure(self) -> None:
        """Write its file anew."""
        text = (DEPLOY / FILES[self.kind]).read_text()
        own = self._of_haproxy() if self.kind == "haproxy" else self._of_nginx()
        common = {
            "127.0.0.1:943": f"127.0.0.1:{self.port}",
            "/etc/ssl/certs/ca-certificates.crt": str(self._authority.file),
        }
        self._config.write_text(replaced(replaced(text, {**common, **own}), self._changes))

    def move(self, *addresses: str) -> None:
        """Let the upstream have other addresses from now on, with all that docs/upstream-pool.md says to do then."""
        self.names.addresses = list(addresses)
        if self.kind == "nginx":
            self.configure()
            before = set(children(self.process.pid))
            self.process.signal(signal.SIGHUP)
            wait_until(lambda: bool(set(children(self.process.pid)) - before))

    def logs(self) -> str:
        """Return all that it has logged."""
        return "".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))

    def spooled(self) -> list[Path]:
        """Return the files in which it keeps bodies."""
        return [path for path in (self.folder / "spool").rglob("*") if path.is_file()]

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _of_haproxy(self) -> dict[str, str]:
        return {
            f"{NAME}:443": f"{NAME}:{self._upstream}",
            "    parse-resolv-conf\n": f"    nameserver test 127.0.0.1:{self.names.port}\n",
            "log /dev/log local0": "log stdout format raw local0",
            "maxconn 20000": "maxconn 1000",  # more than a test's process may have
            "    chroot /var/lib/haproxy\n": "",
            "    user haproxy\n    group haproxy\n": "",
        }

    def _of_nginx(self) -> dict[str, str]:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        spool = "".join(f"{kind}_temp_path {self.folder}/spool/{kind};\n" for kind in kinds)
        (self.folder / "spool").mkdir(exist_ok=True)
        server = f"        server {NAME}:443 max_fails=0;"
        return {
            server: "\n".join(
                server.replace(f"{NAME}:443", f"{address}:{self._upstream}") for address in self.names.addresses
            ),
            "http {\n": f"http {{\n{spool}",
            "user www-data;\n": "",
            "/run/nginx.pid": f"{self.folder}/nginx.pid",
            "/var/log/nginx": str(self.folder),
        }
