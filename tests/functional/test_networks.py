"""Real networks: idle connections, a proxy on the way to the upstream, private authorities, IPv6."""

import base64
import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.clients.web_client import WebClient
from support.gateway.gateway import OTHER_WAYS, Gateway, Way, bearer
from support.gateway.installation import Installation
from support.gateway.processes import Process, free_port, python, running, tool, wait_until
from support.gateway.relay import Relay
from support.network.certificates import Authority
from support.network.forward_proxy import ForwardProxy
from support.upstreams.upstreams import CLOSING, KEY, DemoUpstream, RawUpstream, answer_all

from store.network.sockets import IDLE

HOST = "upstream.test"
"""A name that resolves nowhere (RFC 6761): only the forward proxy knows the way to it."""
PASSWORD = "a-password/of the proxy"
CREDENTIALS = "me:a-password%2Fof%20the%20proxy"
"""The credentials as a URL has them."""
SECRETS = (PASSWORD, CREDENTIALS, base64.b64encode(f"me:{PASSWORD}".encode()).decode())
KEEP_ALIVE = "02"
START = [tool("llm-proxy"), "start"]


def timer(here: socket.socket, there: int) -> tuple[str, float]:
    """Return the timer of the far end of a connection, and its seconds, as Linux shows them (proc(5))."""
    mine = f"0100007F:{here.getsockname()[1]:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, _, pending, *_ = line.split()
        if (local, remote) == (f"0100007F:{there:04X}", mine):
            kind, _, when = pending.partition(":")
            return kind, int(when, 16) / 100
    return "", 0.0


def is_kept_alive(here: socket.socket, there: int) -> bool:
    kind, seconds = timer(here, there)
    return kind == KEEP_ALIVE and IDLE - 10 < seconds <= IDLE


def test_idle_connections_are_kept_alive_on_both_sides(relay: Relay) -> None:
    relay.expect()
    with socket.create_connection(("127.0.0.1", relay.gateway.port), 10) as client:
        client.sendall(relay.head("GET /v1/x HTTP/1.1"))
        assert client.recv(12) == b"HTTP/1.1 200"
        wait_until(lambda: is_kept_alive(client, relay.gateway.port))
        upstream = relay.upstream.conversations[-1].sock
        wait_until(lambda: is_kept_alive(upstream, upstream.getpeername()[1]))


def test_an_idle_client_of_the_management_api_is_kept_alive(relay: Relay) -> None:
    with socket.create_connection(("127.0.0.1", relay.gateway.manage_port), 10) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        wait_until(lambda: is_kept_alive(client, relay.gateway.manage_port))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "authority"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture
def secure(authority: Authority) -> Iterator[RawUpstream]:
    with RawUpstream(answer_all(), tls=authority.server(HOST)) as upstream:
        yield upstream


def test_the_upstream_is_reached_through_a_forward_proxy(
    tmp_path: Path, way: Way, authority: Authority, secure: RawUpstream
) -> None:
    secure.answer = answer_all(CLOSING)  # each request needs a tunnel
    with ForwardProxy({f"{HOST}:443": secure.port}, credentials=f"me:{PASSWORD}") as forward:
        with Gateway.start(
            tmp_path,
            f"https://{HOST}",
            way=way,
            HTTPS_PROXY=f"http://{CREDENTIALS}@127.0.0.1:{forward.port}",
            NO_PROXY="other.test",
            UPSTREAM_CA_FILE=str(authority.file),
        ) as gateway:
            token = gateway.make_token()
            assert httpx.get(f"{gateway.url}/v1/models", headers=bearer(token)).status_code == 200
            forward.instead = b"HTTP/1.1 403 Forbidden\r\n\r\n"
            refused = httpx.get(f"{gateway.url}/v1/models", headers=bearer(token))
            assert (refused.status_code, refused.json()["code"]) == (503, "service_unavailable")
            log = gateway.proxies[0].process.wait_for_output("refused a tunnel to the upstream with status 403")
            forward.instead = None
            assert httpx.get(f"{gateway.url}/v1/models", headers=bearer(token)).status_code == 200
            shown = ""
            if way == "mitmweb":
                with WebClient(gateway.proxies[0].web_url) as web:
                    shown = json.dumps([web.get(path).text for path in ("/flows", "/events", "/options", "/state")])
                assert HOST in shown
        assert f"the proxy 127.0.0.1:{forward.port} (HTTPS_PROXY)" in log
        assert forward.asked == [f"CONNECT {HOST}:443 HTTP/1.1"] * 3
    assert secure.received().count(f"Bearer {KEY}\r\n".encode()) == 2
    assert b"proxy-authorization" not in secure.received().lower()
    written = shown.encode() + b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not [secret for secret in SECRETS if secret.encode() in written]


def test_bad_network_settings_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    installation = Installation(
        tmp_path,
        HTTPS_PROXY="socks5://me:hush@127.0.0.1:1080",
        http_proxy="http://me:hush@:80",
        UPSTREAM_CA_FILE=str(tmp_path / "missing.pem"),
        SSL_CERT_FILE=str(tmp_path / "empty.pem"),
        MAX_BODY="0",
    )
    for command in (START, python("-m", "addon"), python("-m", "manage_api")):
        process = installation.start(command, forked=True)
        assert process.wait() == 2
    output = process.output()
    for fault in (
        "UPSTREAM_CA_FILE cannot be read: No such file or directory",
        "SSL_CERT_FILE holds no certificate in PEM form",
        "HTTPS_PROXY must begin with http:// or https://",
        "HTTP_PROXY must be a URL with the proxy's host",
        "MAX_BODY must be",
    ):
        assert output.count(fault) == 3, output
    assert not [secret for secret in ("hush", "missing.pem", "empty.pem") if secret in output]


def asks(address: str, port: int) -> int:
    host = f"[{address}]" if ":" in address else address
    return httpx.get(f"http://{host}:{port}/health").status_code


@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.soak("addon/serving", "manage_api/cli")), "2"])
def test_both_ports_accept_ipv4_and_ipv6_under_the_supervisor(
    tmp_path: Path, upstream: DemoUpstream, workers: str
) -> None:
    installation = Installation(tmp_path, UPSTREAM_URL=upstream.url, WORKERS=workers)
    ports = (installation.proxy, installation.manage)
    installation.env["PROXY_LISTEN"], installation.env["MANAGE_LISTEN"] = (f"[::]:{port}" for port in ports)
    with running(installation.start(START, forked=True)) as process:
        process.wait_for_output("is up")
        for _ in range(5):  # several workers share the port
            assert [asks(address, port) for port in ports for address in ("127.0.0.1", "::1")] == [200] * 4
        assert process.stop() == 0


@pytest.mark.parametrize("start", ["mitmdump", pytest.param("mitmweb", marks=OTHER_WAYS), "launcher", "management"])
def test_processes_without_a_supervisor_accept_ipv4_and_ipv6(
    tmp_path: Path, upstream: DemoUpstream, start: str
) -> None:
    port, web_port = free_port(), free_port()
    listen = {"WEB_LISTEN": f"127.0.0.1:{web_port}"}
    listen["MANAGE_LISTEN" if start == "management" else "PROXY_LISTEN"] = f"[::]:{port}"
    plain = ["-s", "addon/proxy.py", "-p", str(free_port())]
    web = ["--set", "web_open_browser=false", "--set", "web_password=web-password"]
    command = {
        "mitmdump": [tool("mitmdump"), *plain],
        "mitmweb": [tool("mitmweb"), *plain, *web],
        "launcher": python("-m", "addon"),
        "management": python("-m", "manage_api"),
    }[start]
    env = {**Gateway(tmp_path, upstream.url).env, **listen}
    forked = start in {"launcher", "management"}
    with running(Process(command, env=env, log=tmp_path / "log", forked=forked)) as process:
        process.wait_for_port(port)
        assert [asks(address, port) for address in ("127.0.0.1", "::1")] == [200, 200]
        if start == "mitmweb":
            with WebClient(f"http://127.0.0.1:{web_port}") as operator:
                peers = {flow["client_conn"]["peername"][0] for flow in operator.flows()}
            assert peers == {"127.0.0.1", "::1"}
        assert process.stop() == 0


def test_mitmdump_ends_where_the_port_is_in_use_on_ipv4(tmp_path: Path, upstream: DemoUpstream) -> None:
    with contextlib.closing(socket.create_server(("0.0.0.0", 0))) as taken:  # noqa: S104
        port = taken.getsockname()[1]
        env = {**Gateway(tmp_path, upstream.url).env, "PROXY_LISTEN": f"[::]:{port}"}
        command = [tool("mitmdump"), "-s", "addon/proxy.py", "-p", str(free_port())]
        process = Process(command, env=env, log=tmp_path / "proxy.log")
        assert process.wait() == 1
    assert str(port) in process.output()
