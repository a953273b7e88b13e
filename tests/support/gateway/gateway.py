"""The gateway under test: the real processes on a data folder of their own, or on a database that they share."""

import contextlib
import functools
import itertools
import re
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import httpx
import pytest
from mitmproxy.certs import CertStore

from store.store import Store
from support.gateway.processes import Process, clean_environment, free_port, python, tool
from support.stores.stores import make_settings, opened
from support.upstreams.upstreams import KEY

MANAGEMENT_TOKEN = "management-token-of-the-tests"
ENCRYPTION_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
"""For processes that share a database, and no folder."""

type Way = Literal["launcher", "launcher --web", "mitmdump", "mitmweb"]
WAYS: tuple[Way, ...] = ("launcher", "mitmdump", "mitmweb")

OTHER_WAYS = pytest.mark.soak("addon/inspector", "addon/patches", "addon/proxy.py", "addon/serving")
"""For what the suite does with the launcher alone: functional/test_promises.py has each way in the suite."""

PATHS = ("on", "off")
"""The values of PLAIN_PATH."""

OTHER_PATH = pytest.mark.soak("addon/layers", "addon/plain")
"""For what the suite does on the plain path alone: functional/test_promises.py has both in the suite."""

EACH_PATH = [PATHS[0], pytest.param(PATHS[1], marks=OTHER_PATH)]

EACH_WAY = [WAYS[0], *(pytest.param(way, marks=OTHER_WAYS) for way in WAYS[1:])]

on_each_store = pytest.mark.parametrize(
    ("way", "engine"),
    [
        ("launcher", "sqlite"),
        ("launcher", "postgresql"),
        *(pytest.param(way, "sqlite", marks=OTHER_WAYS) for way in WAYS[1:]),
    ],
    indirect=True,
)
"""For tests whose outcome the store decides."""


_STOPPED = re.compile(r"\bstopped\b.* plain_requests=(\d+) requests=(\d+)")


class Served(NamedTuple):
    """The requests that the proxies have served, those that answered `/health` at the start among them."""

    plain: int
    """Those of the plain path."""
    requests: int
    """All."""


class Gateway:
    """A store, a proxy (or several) and a management API on it (or several), each a process on a port of its own.

    With a `database_url` each process is as on a machine of its own, with a data folder that no other has.
    """

    def __init__(self, folder: Path, upstream_url: str, *, database_url: str = "", **settings: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.manage_ports = [free_port()]
        self.env = {
            **clean_environment(),
            "UPSTREAM_URL": upstream_url,
            "DATA_DIR": str(self.data),
            "MANAGE_LISTEN": f"127.0.0.1:{self.manage_port}",
            "MANAGEMENT_TOKEN": MANAGEMENT_TOKEN,
            "HOME": str(folder),  # mitmdump keeps files there
            "LOG_LEVEL": "debug",
            **({"DATABASE_URL": database_url, "ENCRYPTION_KEY": ENCRYPTION_KEY} if database_url else {}),
            **settings,
        }
        self.proxies: list[Proxy] = []
        self.managements: dict[int, Process] = {}
        self._turns = itertools.count()
        self.data.mkdir(mode=0o700, exist_ok=True)
        for authority in (self.data / "mitmproxy", folder / ".mitmproxy"):  # the gateway's, and mitmdump's own
            authority.mkdir(exist_ok=True)
            for name, content in _authority().items():
                (authority / name).write_bytes(content)

    @classmethod
    @contextlib.contextmanager
    def start(
        cls,
        folder: Path,
        upstream_url: str,
        *,
        way: Way = "launcher",
        proxies: int = 1,
        database_url: str = "",
        **settings: str,
    ) -> Iterator[Self]:
        """Run a management API and `proxies` proxies until the block ends."""
        gateway = cls(folder, upstream_url, database_url=database_url, **settings)
        try:
            management = gateway._spawn_management(gateway.manage_port)
            for proxy in [gateway._spawn_proxy(way) for _ in range(proxies)]:
                proxy.process.wait_for_port(proxy.port)
            management.wait_for_port(gateway.manage_port)
            yield gateway
        finally:
            gateway.stop()

    def start_management(self) -> Process:
        """Start the first management API, again where it has ended."""
        management = self._spawn_management(self.manage_port)
        management.wait_for_port(self.manage_port)
        return management

    def add_management(self) -> None:
        """Start one more management API, on a port of its own."""
        port = free_port()
        self.manage_ports.append(port)
        self._spawn_management(port).wait_for_port(port)

    def start_proxy(self, way: Way = "launcher") -> "Proxy":
        proxy = self._spawn_proxy(way)
        proxy.process.wait_for_port(proxy.port)
        return proxy

    def _spawn_management(self, port: int) -> Process:
        name = f"management{self.manage_ports.index(port)}"
        env = {**self._machine(name), "MANAGE_LISTEN": f"127.0.0.1:{port}"}
        log = self.folder / f"{name}.log"
        self.managements[port] = Process(python("-m", "manage_api"), env=env, log=log, forked=True)
        return self.managements[port]

    def _spawn_proxy(self, way: Way) -> "Proxy":
        name, port, web_port = f"proxy{len(self.proxies)}", free_port(), free_port()
        listen = {"PROXY_LISTEN": f"127.0.0.1:{port}", "WEB_LISTEN": f"127.0.0.1:{web_port}"}
        process = Process(
            _command(way, self.env["UPSTREAM_URL"], port, web_port),
            env={**self._machine(name), **listen},
            log=self.folder / f"{name}.log",
            forked=way == "launcher",
        )
        self.proxies.append(Proxy(process, port, web_port))
        return self.proxies[-1]

    def _machine(self, name: str) -> dict[str, str]:
        """Return the environment of a process, on a machine of its own where that is possible."""
        return {**self.env, "DATA_DIR": str(self.folder / name)} if "DATABASE_URL" in self.env else self.env

    def use(self, process: Process, port: int) -> None:
        """Take a proxy that was started in a way of the test's own."""
        self.proxies.append(Proxy(process, port, 0))

    def stop(self) -> None:
        self.begin_stop()
        with contextlib.ExitStack() as stopping:  # all of them, even if one fails
            for process in self._running():
                stopping.callback(process.wait_stopped)

    def begin_stop(self) -> None:
        """Begin to stop, so that several gateways stop side by side."""
        for process in self._running():
            process.signal(signal.SIGTERM)

    def _running(self) -> list[Process]:
        processes = [*self.managements.values(), *(proxy.process for proxy in self.proxies)]
        return [process for process in processes if process.is_running()]

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        """Open the store past the processes."""
        shared = {name.lower(): self.env[name] for name in ("DATABASE_URL", "ENCRYPTION_KEY") if name in self.env}
        with opened(make_settings(self.folder, **shared)) as store:
            yield store

    @property
    def management(self) -> Process:
        """The first management API."""
        return self.managements[self.manage_port]

    @property
    def manage_port(self) -> int:
        return self.manage_ports[0]

    @property
    def manage_url(self) -> str:
        return f"http://127.0.0.1:{self.manage_port}"

    @property
    def port(self) -> int:
        return self.proxies[0].port

    @property
    def url(self) -> str:
        return self.proxies[0].url

    def manage(self, method: str, path: str, body: object = None, *, token: str = MANAGEMENT_TOKEN) -> httpx.Response:
        """Send one request to the management API; of several, to each in its turn."""
        port = self.manage_ports[next(self._turns) % len(self.manage_ports)]
        return httpx.request(
            method,
            f"http://127.0.0.1:{port}{path}",
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        )

    def make_project(self, name: str = "Tests", api_key: str = KEY) -> dict[str, Any]:
        return self._created("/manage/projects", {"name": name, "api_key": api_key})

    def make_token(self, project_id: str | None = None, **fields: object) -> dict[str, Any]:
        project_id = project_id or self.make_project()["id"]
        return self._created("/manage/tokens", {"project_id": project_id, **fields})

    def token(self, token_id: str) -> dict[str, Any]:
        """Read a token back."""
        found: dict[str, Any] = self.manage("GET", f"/manage/tokens/{token_id}").raise_for_status().json()
        return found

    def logs(self) -> str:
        """Return what all processes have logged."""
        return "".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))

    def stop_and_count(self) -> Served:
        """Stop everything, and return the requests that the proxies have served, as their logs say."""
        self.stop()
        lines = _STOPPED.findall(self.logs())
        assert len(lines) == len(self.proxies)
        return Served(sum(int(plain) for plain, _ in lines), sum(int(requests) for _, requests in lines))

    def _created(self, path: str, body: object) -> dict[str, Any]:
        response = self.manage("POST", path, body)
        assert response.status_code == 201, response.text
        created: dict[str, Any] = response.json()
        return created


class Proxy:
    """One proxy process."""

    def __init__(self, process: Process, port: int, web_port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.web_url = f"http://127.0.0.1:{web_port}"


def bearer(token: dict[str, Any]) -> dict[str, str]:
    """Return the header that sends a token."""
    return {"Authorization": f"Bearer {token['token']}"}


@functools.cache
def _authority() -> Mapping[str, bytes]:
    """Make the files of mitmproxy's authority once: every proxy would make its own at its start, for 50 ms."""
    with tempfile.TemporaryDirectory() as folder:
        CertStore.create_store(Path(folder), "mitmproxy", 2048)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def _command(way: Way, upstream_url: str, port: int, web_port: int) -> Sequence[str]:
    if way == "launcher":
        return python("-m", "addon")
    if way == "launcher --web":
        return python("-m", "addon", "--web")
    # A free port from the start: plain `mitmdump -s` opens 8080 before it loads a script.
    mode = ["--mode", f"reverse:{upstream_url}@127.0.0.1:{port}", "-s", "addon/proxy.py"]
    if way == "mitmdump":
        return [tool("mitmdump"), *mode]
    web = ["--set", f"web_port={web_port}", "--set", "web_open_browser=false", "--set", "web_password=web-password"]
    return [tool("mitmweb"), *mode, *web]
