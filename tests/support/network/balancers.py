"""The load balancers of docs/deploy, started for real: with those files, and ports, paths and users of the test's."""

import contextlib
import csv
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from support.clients.raw_client import RawClient
from support.gateway.processes import Process, clean_environment, free_port, running, wait_until
from support.network.certificates import Authority
from support.network.http_engine import HttpEngine, Kind

FILES: Mapping[Kind, str] = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg"}


class Balancer(HttpEngine):
    """A balancer before nodes, speaking TLS on `port`, and plain HTTP to the management API on `manage_port`."""

    def __init__(self, kind: Kind, folder: Path, nodes: Sequence[int], manage: int, changes: Mapping[str, str]) -> None:
        super().__init__(kind, folder, FILES[kind], changes)
        self.port, self.manage_port = free_port(), free_port()
        self.url = f"https://localhost:{self.port}"
        authority = Authority(folder)
        authority.server("localhost")
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.tls.load_verify_locations(authority.file)
        self.admin = folder / "admin.sock"
        self._certificate = folder / "localhost-False.pem"
        self._nodes = nodes
        self._manage = manage
        self.configure()

    @classmethod
    @contextlib.contextmanager
    def start(
        cls, kind: Kind, folder: Path, nodes: Sequence[int], manage: int, changes: Mapping[str, str] | None = None
    ) -> Iterator[Self]:
        """Run a balancer before two ports of proxies until the block ends; `changes` are made to its file, too."""
        balancer = cls(kind, folder, nodes, manage, changes or {})
        process = Process(balancer.command(), env=clean_environment(), log=folder / "access.log")
        with running(process):
            process.wait_for_port(balancer.manage_port)
            balancer.process = process
            yield balancer

    def take_out(self, node: int) -> None:
        """Send no new requests to a node (1 or 2), as docs/high-availability.md has it."""
        if self.kind == "haproxy":
            assert self._tell(f"set server proxies/node{node} state drain").strip() == ""
        else:
            line = f"127.0.0.1:{self._nodes[node - 1]} max_fails=1 fail_timeout=5s"
            self.configure({line: f"{line} down"})
            self.reload()

    def put_back(self, node: int) -> None:
        """Undo that, and return once the node is in use."""
        if self.kind == "haproxy":
            assert self._tell(f"set server proxies/node{node} state ready").strip() == ""
            wait_until(lambda: self._is_up(node))
        else:
            self.configure()
            self.reload()

    def reload(self) -> None:
        super().reload()
        self.process.wait_for_port(self.manage_port)

    def _tell(self, command: str) -> str:
        """Send a command to HAProxy, and return its answer."""
        with socket.socket(socket.AF_UNIX) as admin, admin.makefile("r") as answer:
            admin.connect(str(self.admin))
            admin.sendall(f"{command}\n".encode())
            return answer.read()

    def _is_up(self, node: int) -> bool:
        rows = csv.DictReader(self._tell("show stat").splitlines())
        return any((row["# pxname"], row["svname"], row["status"]) == ("proxies", f"node{node}", "UP") for row in rows)

    def client(self) -> RawClient:
        """Connect with TLS, for HTTP/1.1."""
        return RawClient(self.port, tls=self.tls)

    def log(self) -> str:
        return (self.folder / "access.log").read_text(errors="replace")

    def wait_for_log(self, text: str) -> None:
        """Wait until the access log has this: a balancer logs after it has answered."""
        wait_until(lambda: text in self.log())

    def _own(self) -> dict[str, str]:
        nodes = {f"10.0.0.1{number}:8080": f"127.0.0.1:{port}" for number, port in enumerate(self._nodes, 1)}
        manage = {f"10.0.0.1{number}:8081": f"127.0.0.1:{self._manage}" for number in (1, 2)}
        own = {**nodes, **manage, "127.0.0.1:8081": f"127.0.0.1:{self.manage_port}"}
        return {**own, **(self._of_haproxy() if self.kind == "haproxy" else self._of_nginx())}

    def _of_haproxy(self) -> dict[str, str]:
        return {
            "/run/haproxy/admin.sock": str(self.admin),
            "bind :::443 v4v6": f"bind 127.0.0.1:{self.port}",
            "/etc/haproxy/llm-proxy.pem": str(self._certificate),
        }

    def _of_nginx(self) -> dict[str, str]:
        return {
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            "    listen [::]:443 ssl http2;\n": "",
            "/etc/ssl/llm-proxy/fullchain.pem": str(self._certificate),
            "/etc/ssl/llm-proxy/privkey.pem": str(self._certificate),
        }
