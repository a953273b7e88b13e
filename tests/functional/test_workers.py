"""Several workers on one port, under one supervisor: the load is spread, and requests survive the end of each."""

import contextlib
import functools
import http.client
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from support.gateway.gateway import MANAGEMENT_TOKEN, bearer
from support.gateway.installation import Installation, children, started
from support.gateway.processes import Process, open_files, wait_until
from support.load.load import Busy
from support.upstreams.upstreams import KEY, DemoUpstream

WORKERS = 2
REPLACED = "Replaced; the old ones end"
OPERATOR = {"Authorization": f"Bearer {MANAGEMENT_TOKEN}"}


class Site(NamedTuple):
    """A supervisor, and the port on which it listens."""

    process: Process
    installation: Installation

    def hang_up(self) -> None:
        """Have all workers replaced, and wait for that; the old ones may still be ending."""
        before = self.process.output().count(REPLACED)
        self.process.signal(signal.SIGHUP)
        self.process.wait_for_output(REPLACED, before + 1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, upstream: DemoUpstream, path: str) -> Iterator[Site]:
    settings = {
        "UPSTREAM_URL": upstream.url,
        "MANAGEMENT_TOKEN": MANAGEMENT_TOKEN,
        "LOG_LEVEL": "warning",
        "PLAIN_PATH": path,
    }
    installation = Installation(tmp_path_factory.mktemp("workers"), **settings | {"WORKERS": str(WORKERS)})
    with started(installation) as process:
        yield Site(process, installation)
        assert process.stop() == 0
    assert installation.ports_are_free()


def make_token(installation: Installation) -> dict[str, Any]:
    def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        url, headers = f"http://127.0.0.1:{installation.manage}/manage/{path}", OPERATOR
        made: dict[str, Any] = httpx.post(url, json=body, headers=headers).raise_for_status().json()
        return made

    return post("tokens", {"project_id": post("projects", {"name": "Tests", "api_key": KEY})["id"]})


def request_count(installation: Installation, token: dict[str, Any]) -> int:
    found = httpx.get(f"http://127.0.0.1:{installation.manage}/manage/tokens/{token['id']}", headers=OPERATOR)
    count: int = found.raise_for_status().json()["request_count"]
    return count


class Clients(Busy):
    """Clients that ask for the models without a pause: some on new connections, some on kept ones."""

    def __init__(self, port: int, token: dict[str, Any], number: int) -> None:
        self.answers: Counter[object] = Counter()
        self._port, self._headers = port, bearer(token)
        super().__init__(functools.partial(self._ask, keeps=turn % 2 == 0) for turn in range(number))

    def _ask(self, keeps: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self.done.is_set():
            try:
                connection.request("GET", "/v1/models", headers=self._headers)  # it connects again after a `close`
                response = connection.getresponse()
                response.read()
                self.answers[response.status] += 1
            except (OSError, http.client.HTTPException) as error:
                self.answers[repr(error)] += 1
                connection.close()
            if not keeps:
                connection.close()
        connection.close()


def ask(connection: http.client.HTTPConnection, token: dict[str, Any]) -> tuple[int, str | None]:
    """Ask for the models; return the status, and the header Connection of the answer."""
    connection.request("GET", "/v1/models", headers=bearer(token))
    response = connection.getresponse()
    response.read()
    return response.status, response.getheader("Connection")


@contextlib.contextmanager
def kept_connections(installation: Installation, token: dict[str, Any]) -> Iterator[list[http.client.HTTPConnection]]:
    """Open connections that have had one answer each, so that every worker has some."""
    with contextlib.ExitStack() as stack:
        kept = [http.client.HTTPConnection("127.0.0.1", installation.proxy, timeout=30) for _ in range(8)]
        for connection in kept:
            stack.callback(connection.close)
            assert ask(connection, token) == (200, None)
        yield kept


@contextlib.contextmanager
def streaming(installation: Installation, token: dict[str, Any]) -> Iterator[Callable[[], list[str]]]:
    """Begin a stream of some seconds; yield a function that reads its other lines."""
    headers = {**bearer(token), "X-Demo-Words": "100", "X-Demo-Chunk-Delay": "0.05"}
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "drain"}]}
    url = f"http://127.0.0.1:{installation.proxy}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=headers, timeout=30) as response:
        lines = response.iter_lines()
        next(lines)
        yield lambda: [*lines]


def workers(pid: int) -> list[int]:
    """Return the supervisor's children that are proxies."""
    return [child for child in children(pid) if "addon" in Path(f"/proc/{child}/cmdline").read_text().split("\0")]


def connections(pid: int) -> int:
    """Return how many sockets a process has open."""
    return sum(name.startswith("socket:") for name in open_files(pid))


def test_connections_spread_over_the_workers(site: Site) -> None:
    process, installation = site
    with contextlib.ExitStack() as stack:
        pids = workers(process.pid)
        assert len(pids) == WORKERS
        before = [connections(pid) for pid in pids]
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", installation.proxy)))
        wait_until(lambda: sum(map(connections, pids)) >= sum(before) + 60)
        taken = [connections(pid) - least for pid, least in zip(pids, before, strict=True)]
        assert min(taken) >= 10, taken


@pytest.mark.soak("addon/serving", "manage_api/cli")  # in the suite: test_run_sh.py has a hangup
def test_a_hangup_under_load_replaces_the_workers_and_fails_no_request(site: Site) -> None:
    """It neither cuts responses under way nor closes an idle kept connection before its last response."""
    process, installation = site
    token, before = make_token(installation), workers(process.pid)
    with (
        Clients(installation.proxy, token, 8) as clients,
        streaming(installation, token) as rest_of_stream,
        kept_connections(installation, token) as kept,
    ):
        site.hang_up()
        assert set(before) & set(workers(process.pid))
        assert rest_of_stream()[-2:] == ["data: [DONE]", ""]
        assert [ask(connection, token) for connection in kept] == [(200, "close")] * len(kept)
    wait_until(lambda: not set(before) & set(workers(process.pid)))
    assert len(workers(process.pid)) == WORKERS
    assert set(clients.answers) == {200}, clients.answers
    assert request_count(installation, token) == clients.answers[200] + 2 * len(kept) + 1


def test_a_killed_worker_costs_only_the_requests_that_it_had(site: Site) -> None:
    process, installation = site
    token = make_token(installation)
    with Clients(installation.proxy, token, 8) as clients:
        wait_until(lambda: clients.answers[200] > 50)
        os.kill(workers(process.pid)[0], signal.SIGKILL)
        process.wait_for_output("starting another one")
        seen = clients.answers[200]
        wait_until(lambda: len(workers(process.pid)) == WORKERS and clients.answers[200] > seen + 50)
    failed = sum(number for what, number in clients.answers.items() if what != 200)
    assert failed <= 8, clients.answers
    assert clients.answers[200] <= request_count(installation, token) <= clients.answers[200] + failed
