"""The load balancers of docs/deploy, started for real: with those files, and ports, paths and users of the test's."""

import contextlib
import csv
import shutil
import signal
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

import pytest

from support.certificates import Authority
from support.installation import children
from support.processes import ROOT, Process, clean_environment, free_port, running, wait_until
from support.raw_client import RawClient

DEPLOY = ROOT / "docs" / "deploy"

type Kind = Literal["nginx", "haproxy"]
KINDS: tuple[Kind, ...] = ("nginx", "haproxy")


def require(program: str) -> str:
    """Return where a program is; skip the test where it is not installed."""
    found = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


class Balancer:
    """A balancer before nodes, speaking TLS on `port`, and plain HTTP to the management API on `manage_port`."""

    def __init__(self, kind: Kind, folder: Path, nodes: Sequence[int], manage: int, changes: Mapping[str, str]) -> None:
        folder.chmod(0o755)  # nginx's workers are somebody else where root runs the tests
        self.kind = kind
        self.folder = folder
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
        self._changes = changes
        self._program = require(kind)
        self.process: Process
        self._config = folder / f"{kind}.conf"
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

    def command(self) -> list[str]:
        """Return what starts it in the foreground."""
        if self.kind == "haproxy":
            return [self._program, "-W", "-db", "-f", str(self._config)]
        return [self._program, "-p", str(self.folder), "-c", str(self._config), "-g", "daemon off;"]

    def configure(self, more: Mapping[str, str] | None = None) -> None:
        """Write its file anew, with `more` changes."""
        text = replaced((DEPLOY / ("haproxy.cfg" if self.kind == "haproxy" else "nginx.conf")).read_text(), self._own())
        self._config.write_text(replaced(text, {**self._changes, **(more or {})}))

    def take_out(self, node: int) -> None:
        """Send no new requests to a node (1 or 2), as docs/several-machines.md has it."""
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
        """Have it read its file anew, as `systemctl reload` does, and wait for the processes that come of that."""
        before = set(children(self.process.pid))
        self.process.signal(signal.SIGUSR2 if self.kind == "haproxy" else signal.SIGHUP)
        wait_until(lambda: bool(set(children(self.process.pid)) - before))
        self.process.wait_for_port(self.manage_port)

    def _tell(self, command: str) -> str:
        """Tell HAProxy something, and return what it says to that."""
        with socket.socket(socket.AF_UNIX) as admin, admin.makefile("r") as said:
            admin.connect(str(self.admin))
            admin.sendall(f"{command}\n".encode())
            return said.read()

    def _is_up(self, node: int) -> bool:
        rows = csv.DictReader(self._tell("show stat").splitlines())
        return any((row["# pxname"], row["svname"], row["status"]) == ("proxies", f"node{node}", "UP") for row in rows)

    def client(self) -> RawClient:
        """Connect with TLS, for HTTP/1.1."""
        return RawClient(self.port, tls=self.tls)

    def log(self) -> str:
        return (self.folder / "access.log").read_text(errors="replace")

    def wait_for_log(self, text: str) -> None:
        """Wait until the access log has it: a balancer logs after it has answered."""
        wait_until(lambda: text in self.log())

    def spooled(self) -> list[Path]:
        """Return the files in which it keeps bodies."""
        return [path for path in (self.folder / "spool").rglob("*") if path.is_file()]

    def _own(self) -> dict[str, str]:
        nodes = {f"10.0.0.1{number}:8080": f"127.0.0.1:{port}" for number, port in enumerate(self._nodes, 1)}
        manage = {f"10.0.0.1{number}:8081": f"127.0.0.1:{self._manage}" for number in (1, 2)}
        own = {**nodes, **manage, "127.0.0.1:8081": f"127.0.0.1:{self.manage_port}"}
        return {**own, **(self._of_haproxy() if self.kind == "haproxy" else self._of_nginx())}

    def _of_haproxy(self) -> dict[str, str]:
        return {
            "log /dev/log local0": "log stdout format raw local0",
            "maxconn 20000": "maxconn 1000",  # more than a test's process may have
            "    chroot /var/lib/haproxy\n": "",
            "    user haproxy\n    group haproxy\n": "",
            "/run/haproxy/admin.sock": str(self.admin),
            "bind :::443 v4v6": f"bind 127.0.0.1:{self.port}",
            "/etc/haproxy/llm-proxy.pem": str(self._certificate),
        }

    def _of_nginx(self) -> dict[str, str]:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        spool = "".join(f"{kind}_temp_path {self.folder}/spool/{kind};\n" for kind in kinds)
        (self.folder / "spool").mkdir(exist_ok=True)
        return {
            "http {\n": f"http {{\n{spool}",
            "user www-data;\n": "",
            "/run/nginx.pid": f"{self.folder}/nginx.pid",
            "/var/log/nginx": str(self.folder),
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            "    listen [::]:443 ssl http2;\n": "",
            "/etc/ssl/llm-proxy/fullchain.pem": str(self._certificate),
            "/etc/ssl/llm-proxy/privkey.pem": str(self._certificate),
        }


def replaced(text: str, changes: Mapping[str, str]) -> str:
    """Return the text with `changes`, each of which must be there to be made."""
    for old, new in changes.items():
        assert old in text, f"the file has changed: {old!r} is not in it"
        text = text.replace(old, new)
    return text
