"""Starts that fail: each names its fault, ends with the right status, and leaves nothing running."""

import contextlib
import dataclasses
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from support.gateway.gateway import bearer
from support.gateway.installation import Installation, started
from support.gateway.processes import ROOT, Process, python, tool, without_rights
from support.stores.stores import opened
from support.upstreams.upstreams import KEY, DemoUpstream

from store.operations.opening import management_token
from store.runtime.settings import Settings

RUN = [tool("llm-proxy"), "start"]  # what ./run.sh starts
PROXY = python("-m", "addon")
PROXY_WITH_MITMWEB = python("-m", "addon", "--web")
MANAGEMENT = python("-m", "manage_api")
WEB = [tool("llm-proxy"), "web"]
PREPARATION = python("-m", "manage_api.cli.supervision.preparation")  # RUN starts it first, and ends as it does
FORKED = (RUN, WEB, PROXY, MANAGEMENT, PREPARATION)

type Break = Callable[[Installation], object]


@dataclasses.dataclass(frozen=True)
class Fault:
    """A way to make a start fail, its command, and the message and status that are expected."""

    message: str
    cause: Break
    command: list[str] = dataclasses.field(default_factory=lambda: PREPARATION)
    status: int = 1
    has_rights: bool = True


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """An installation that was started before."""
    installation = Installation(tmp_path, UPSTREAM_URL="http://127.0.0.1:9")
    settings = Settings(_env_file=None, data_dir=installation.data)
    with opened(settings):
        management_token(settings)
    return installation


def write(name: str, content: bytes) -> Break:
    return lambda installation: (installation.data / name).write_bytes(content)


def remove(name: str) -> Break:
    return lambda installation: (installation.data / name).unlink()


def folder_instead_of(name: str) -> Break:
    def cause(installation: Installation) -> None:
        (installation.data / name).unlink()
        (installation.data / name).mkdir()

    return cause


def forbid(name: str, mode: int) -> Break:
    return lambda installation: (installation.data / name).chmod(mode)


def sql(statement: str) -> Break:
    def cause(installation: Installation) -> None:
        with contextlib.closing(sqlite3.connect(installation.data / "llm-proxy.db")) as database, database:
            database.execute(statement)

    return cause


def cut(installation: Installation) -> None:
    file = installation.data / "llm-proxy.db"
    file.write_bytes(file.read_bytes()[:5000])


def file_as_data_dir(installation: Installation) -> None:
    installation.env["DATA_DIR"] = str(installation.data / "encryption_key")


def below_a_file(installation: Installation) -> None:
    installation.env["DATA_DIR"] = str(installation.data / "encryption_key" / "data")


def mitmproxys(name: str, content: bytes) -> Break:
    def cause(installation: Installation) -> None:
        folder = installation.data / "mitmproxy"
        folder.mkdir()
        (folder / name).write_bytes(content)

    return cause


def setting(name: str, value: str) -> Break:
    return lambda installation: installation.env.update({name: value})


def dotenv(content: bytes, mode: int = 0o600) -> Break:
    def cause(installation: Installation) -> None:
        file = installation.folder / ".env"
        file.write_bytes(content)
        file.chmod(mode)

    return cause


FAULTS = {
    "a file as DATA_DIR": Fault("File exists", file_as_data_dir),
    "DATA_DIR below a file": Fault("Not a directory", below_a_file),
    "a DATA_DIR that is read-only": Fault(
        "attempt to write a readonly database", forbid("", 0o500), RUN, has_rights=False
    ),
    "no database": Fault("file is not a database", write("llm-proxy.db", b"this is no database" * 100), RUN),
    "a database cut off": Fault("malformed", cut),
    "a database of a later version": Fault(
        "The store's schema is newer than this program (it has 9999_later)",
        sql("INSERT INTO schema_migration (name, applied) VALUES ('9999_later', '2026-01-01')"),
    ),
    "a database without its tables": Fault("no such table", sql("DROP TABLE secret")),
    "a database without its secret": Fault("has lost its secret", sql("DELETE FROM secret WHERE name != 'check'")),
    "a database that is read-only": Fault("readonly", forbid("llm-proxy.db", 0o400), has_rights=False),
    "a lock of another user": Fault("Permission denied", forbid("llm-proxy.db.lock", 0), has_rights=False),
    "a folder as key file": Fault("Is a directory", folder_instead_of("encryption_key")),
    "no key file": Fault("there is no key", remove("encryption_key")),
    "an empty key file": Fault("encryption_key in DATA_DIR is damaged", write("encryption_key", b"")),
    "a damaged key file": Fault("encryption_key in DATA_DIR is damaged", write("encryption_key", b"\xff\x00")),
    "a key file of others": Fault("Permission denied", forbid("encryption_key", 0), has_rights=False),
    "another key": Fault("does not open this store", setting("ENCRYPTION_KEY", "A" * 43 + "="), RUN),
    "an empty management token": Fault("management_token in DATA_DIR is empty", write("management_token", b"\n")),
    "a folder as management token": Fault("Is a directory", folder_instead_of("management_token"), MANAGEMENT),
    "a management token of others": Fault(
        "Permission denied", forbid("management_token", 0), MANAGEMENT, has_rights=False
    ),
    "an unreadable .env": Fault(
        ".env cannot be read: Permission denied", dotenv(b"", 0), MANAGEMENT, has_rights=False, status=2
    ),
    "a .env that is no text": Fault(".env is no text", dotenv(b"\xff\xfe\x00"), PROXY, status=2),
    "a low port": Fault("PROXY_LISTEN=127.0.0.1:81", setting("PROXY_LISTEN", "127.0.0.1:81"), RUN, has_rights=False),
    "an address of others": Fault("MANAGE_LISTEN=192.0.2.1", setting("MANAGE_LISTEN", "192.0.2.1:8081"), RUN),
    "an IPv6 address of others": Fault("[2001:db8::1]:8080", setting("PROXY_LISTEN", "[2001:db8::1]:8080"), RUN),
    "an unknown name": Fault("MANAGE_LISTEN", setting("MANAGE_LISTEN", "[fe80::1%nowhere]:1"), MANAGEMENT),
    "mitmproxy's options broken": Fault("config.yaml", mitmproxys("config.yaml", b"a: [b"), PROXY),
    "mitmproxy's options of a wrong type": Fault(
        "for connection_strategy", mitmproxys("config.yaml", b"connection_strategy: 5"), PROXY
    ),
    "mitmproxy's CA damaged": Fault(
        "Cannot use mitmproxy's files", mitmproxys("mitmproxy-ca.pem", b"no certificate"), PROXY
    ),
    "a file as mitmproxy's folder": Fault("Cannot use mitmproxy's files", write("mitmproxy", b""), PROXY),
}


def fail(installation: Installation, command: list[str], *, has_rights: bool = True) -> Process:
    """Run a command that must end by itself, without a traceback, and leave nothing behind."""
    process = installation.start(command, installation.folder, forked=command in FORKED, has_rights=has_rights)
    process.wait()
    assert "Traceback" not in process.output()
    installation.wait_until_nothing_runs()
    return process


@pytest.mark.parametrize("name", FAULTS)
def test_a_failed_start_names_its_fault(installation: Installation, name: str) -> None:
    fault = FAULTS[name]
    fault.cause(installation)
    process = fail(installation, fault.command, has_rights=fault.has_rights)
    assert process.wait() == fault.status
    assert fault.message in process.output()
    installation.data.chmod(0o700)


def test_a_process_without_rights_is_stopped_by_permissions(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0)
    log = tmp_path / "log"
    process = Process(without_rights([sys.executable, "-c", f"open({str(secret)!r})"]), env={}, log=log)
    assert process.wait() == 1
    assert "PermissionError" in process.output()


@contextlib.contextmanager
def taken(installation: Installation, name: str, host: str = "127.0.0.1") -> Iterator[str]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        installation.env[name] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        yield installation.env[name]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(("name", "command"), [("PROXY_LISTEN", RUN), ("MANAGE_LISTEN", RUN), ("WEB_LISTEN", WEB)])
def test_a_port_in_use_is_named(installation: Installation, name: str, command: list[str], host: str) -> None:
    if ":" in host and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with taken(installation, name, host) as listen:
        process = fail(installation, command)
    assert process.wait() == 1
    assert f"Cannot listen on {name}={listen}: Address already in use" in process.output()


@pytest.mark.parametrize(
    ("name", "command"),
    [("PROXY_LISTEN", PROXY), ("MANAGE_LISTEN", MANAGEMENT), ("WEB_LISTEN", PROXY_WITH_MITMWEB)],
)
def test_a_port_in_use_is_named_by_the_process_that_opens_it(
    installation: Installation, name: str, command: list[str]
) -> None:
    with taken(installation, name) as listen:
        process = fail(installation, command)
    assert process.wait() == 1
    assert listen in process.output()
    assert "Address already in use".lower() in process.output().lower()


def test_bad_settings_are_all_named_without_their_values(installation: Installation) -> None:
    names = ("UPSTREAM_URL", "PROXY_LISTEN", "LOG_LEVEL", "DRAIN_TIMEOUT", "MANAGEMENT_TOKEN", "ENCRYPTION_KEY")
    faults = dict.fromkeys((*names, "DATABSE_URL"), "sekret")
    installation.env.update(faults)
    (installation.folder / ".env").write_text("sekret\nLEDGERDAYS=sekret\n")
    for command in (RUN, PROXY, MANAGEMENT, [tool("mitmdump"), "-s", str(ROOT / "addon" / "proxy.py"), "-p", "0"]):
        process = fail(installation, command)
        assert process.wait() == 2
        assert all(name in process.output() for name in (*faults, ".env line 1", "LEDGERDAYS in .env"))
        assert "sekret" not in process.output()
        process.log.unlink()


def test_a_second_start_shares_the_store_on_other_ports(tmp_path: Path, upstream: DemoUpstream) -> None:
    first = Installation(tmp_path, UPSTREAM_URL=upstream.url, MANAGEMENT_TOKEN="management-token-of-the-tests")
    with started(first) as running:
        second = first.run()
        assert second.wait() == 1
        assert f"PROXY_LISTEN=127.0.0.1:{first.proxy}: Address already in use" in second.output()
        assert running.is_running()

        (tmp_path / "other").mkdir()
        other = Installation(tmp_path / "other", **{**first.env, **_listens(Installation(tmp_path / "other"))})
        with started(other):
            token = _make_token(first)
            for port in (_port(other, "PROXY_LISTEN"), first.proxy):
                assert httpx.get(f"http://127.0.0.1:{port}/v1/models", headers=bearer(token)).status_code == 200
            assert _read_token(other, token)["request_count"] == 2
    first.wait_until_nothing_runs()


def _listens(installation: Installation) -> dict[str, str]:
    return {name: value for name, value in installation.env.items() if name.endswith("_LISTEN")}


def _port(installation: Installation, name: str) -> int:
    return int(installation.env[name].rpartition(":")[2])


AUTHORIZED = {"Authorization": "Bearer management-token-of-the-tests"}


def _make_token(installation: Installation) -> dict[str, str]:
    url = f"http://127.0.0.1:{_port(installation, 'MANAGE_LISTEN')}/manage"
    project = httpx.post(f"{url}/projects", json={"name": "Tests", "api_key": KEY}, headers=AUTHORIZED).json()
    token: dict[str, str] = httpx.post(f"{url}/tokens", json={"project_id": project["id"]}, headers=AUTHORIZED).json()
    return token


def _read_token(installation: Installation, token: dict[str, str]) -> dict[str, int]:
    url = f"http://127.0.0.1:{_port(installation, 'MANAGE_LISTEN')}/manage/tokens/{token['token']}"
    found: dict[str, int] = httpx.get(url, headers=AUTHORIZED).json()
    return found
