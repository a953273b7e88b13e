"""PostgreSQL behind pgbouncer in transaction mode, where each transaction may have another connection; with TLS, which
pgbouncer speaks where the server of these tests does not.
"""

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from support.gateway.gateway import Gateway, bearer
from support.gateway.processes import DEADLINE, Process, clean_environment, free_port, python, wait_until
from support.network.certificates import Authority
from support.stores.postgresql import NOBODY, QUICK, Server
from support.upstreams.upstreams import RawUpstream, answer_all

PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
CLIENTS = 8
REQUESTS = 50

pytestmark = [
    pytest.mark.soak("store/database"),
    pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed"),
]


class Pooler:
    """A pgbouncer with a few connections to a server, in a folder that its user may read."""

    def __init__(self, folder: Path, server: Server, *lines: str) -> None:
        self.port = free_port()
        self._folder = folder
        config = [
            "[databases]",
            f"postgres = host=127.0.0.1 port={server.port} user=postgres",
            "[pgbouncer]",
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =",
            "auth_type = any\npool_mode = transaction\ndefault_pool_size = 4\nserver_login_retry = 1",
            *lines,
        ]
        self._file = folder / "pgbouncer.ini"
        self._file.write_text("\n".join(config) + "\n")
        self.start()

    def start(self) -> None:
        as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
        self._process = Process(
            [*as_nobody, str(PROGRAM), str(self._file)], env=clean_environment(), log=self._folder / "pgbouncer.log"
        )
        self._process.wait_for_output("process up")

    def kill(self) -> None:
        self._process.kill()

    def url(self, options: str = "") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres{options}"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for all to read: `tmp_path` is its owner's alone."""
    made = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server.running(*QUICK) as server:
        yield server


@contextlib.contextmanager
def pooled(folder: Path, server: Server, *lines: str) -> Iterator[Pooler]:
    pooler = Pooler(folder, server, *lines)
    try:
        yield pooler
    finally:
        pooler.kill()


def test_the_gateway_works_behind_a_pooler(tmp_path: Path, folder: Path, server: Server) -> None:
    with (
        RawUpstream(answer_all()) as upstream,
        pooled(folder, server) as pooler,
        Gateway.start(tmp_path, upstream.url, proxies=2, database_url=pooler.url()) as gateway,
    ):
        token = gateway.make_token(max_requests=CLIENTS * REQUESTS + 1)

        def use(number: int) -> None:
            with httpx.Client(base_url=gateway.proxies[number % 2].url, headers=bearer(token), timeout=30) as client:
                for _ in range(REQUESTS):
                    assert client.get("/v1/models").status_code == 200
                    gateway.token(token["id"])

        threads = [threading.Thread(target=use, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert gateway.token(token["id"])["request_count"] == CLIENTS * REQUESTS
        with psycopg.connect(server.url()) as connection:
            sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            ((connections,),) = connection.execute(sql).fetchall()
        print(f"{CLIENTS * REQUESTS} requests over {connections - 1} connections of pgbouncer")
        assert connections - 1 <= 5
        pooler.kill()
        refused = httpx.get(f"{gateway.url}/v1/models", headers=bearer(token), timeout=30)
        assert refused.json()["code"] == "store_unavailable"
        pooler.start()
        wait_until(lambda: gateway.manage("GET", f"/manage/tokens/{token['id']}").status_code == 200)
        with httpx.Client(base_url=gateway.url, headers=bearer(token), timeout=30) as client:
            assert [client.get("/v1/models").status_code for _ in range(2)] == [200, 429]
        assert gateway.token(token["id"])["request_count"] == CLIENTS * REQUESTS + 1
        wait_until(lambda: requests_in_report(gateway) == CLIENTS * REQUESTS + 1)


def requests_in_report(gateway: Gateway) -> int:
    report = gateway.manage("GET", "/manage/usage").raise_for_status().json()
    return int(report["totals"]["requests"])


def test_tls_is_used_as_the_url_says(tmp_path: Path, folder: Path, server: Server) -> None:
    """pgbouncer refuses clients without TLS; the gateway refuses a server that its authority does not vouch for."""
    trusted, unknown = Authority(folder), Authority(tmp_path)
    trusted.server("localhost")
    certificate = folder / "localhost-False.pem"
    certificate.chmod(0o644)
    tls = f"client_tls_sslmode = require\nclient_tls_cert_file = {certificate}\nclient_tls_key_file = {certificate}"
    with RawUpstream(answer_all()) as upstream, pooled(folder, server, tls) as pooler:
        url = pooler.url("?sslmode=verify-full&sslrootcert={}").replace("127.0.0.1", "localhost")
        with Gateway.start(tmp_path, upstream.url, database_url=url.format(trusted.file)) as gateway:
            token = gateway.make_token()
            assert httpx.get(f"{gateway.url}/v1/models", headers=bearer(token)).status_code == 200
        gateway = Gateway(tmp_path, upstream.url, database_url=url.format(unknown.file))
        process = Process(
            python("-m", "addon"), env=gateway.env | {"PROXY_LISTEN": "127.0.0.1:1"}, log=tmp_path / "refused.log"
        )
        assert process.wait(DEADLINE) == 1
        assert "SSL error" in process.output()
