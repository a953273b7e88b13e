"""Only /v1 of the one upstream can be reached, by HTTP in reverse mode over TCP: everything else is refused before any
connection to the upstream, even with a good token."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from support.gateway import Gateway, Way
from support.processes import Process, free_port, tool
from support.raw_client import RawClient
from support.upstreams import RawUpstream, answer_all


class Door:
    """A gateway before an upstream that knows whether anybody came, and a good token."""

    def __init__(self, gateway: Gateway, upstream: RawUpstream) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self._token = gateway.make_token()["token"]

    def ask(self, line: str, *headers: str) -> tuple[int, str | None, bytes]:
        """Send a request with the token; return status and code of the answer, and what the upstream got of it."""
        self.upstream.conversations.clear()
        lines = [line, *(headers or ["Host: proxy"]), f"Authorization: Bearer {self._token}"]
        with RawClient(self.gateway.port) as client:
            client.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
            head, body = client.read_answer()
        return int(head.split(b" ")[1]), json.loads(body).get("code"), self.upstream.received()

    def came(self) -> int:
        return len(self.upstream.conversations)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, way: Way) -> Iterator[Door]:
    with (
        RawUpstream(answer_all()) as upstream,
        Gateway.start(tmp_path_factory.mktemp("door"), upstream.url, way=way) as gateway,
    ):
        yield Door(gateway, upstream)


def test_a_good_request_passes(door: Door) -> None:
    status, _, received = door.ask("GET /v1/models HTTP/1.1")
    assert status == 200
    assert received.startswith(b"GET /v1/models HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "target",
    [
        "/v1/../v1/models",
        "/v1/..",
        "/v1/.",
        "/v1/./models",
        "/v1/%2e%2e/admin",
        "/v1/%2E%2E/admin",
        "/v1/.%2e/admin",
        "/v1/%2e/models",
        "/v1/a%2f..%2f..%2fadmin",
        "/v1/a%2f%2e%2e%2fb",
        "/v1/..;/admin",
        "/v1/%2e%2e%3b/admin",
        "/v1/.;x=1/models",
        "/v1/;x=1/models",
        "/v1//models",
        "/v1/models//",
        "/v1/%2f/admin",
        "//v1/models",
        "//other.example/v1/models",
        "/health/../v1/models",
        "/v1/a\\..\\b",
        "/v1/a%5C..%5Cb",
        "/v1/models#fragment",
        "http://other.example/v1/models",
        "http://proxy/v1/models",
        "https://other.example/v1/models",
        "ftp://other.example/v1/models",
        "v1/models",
        "*",
        "?/v1/models",
        "other.example:80",
        "/v1/models\x01",
        "/v1/models\x7f",
    ],
)
def test_targets_that_are_no_plain_path(door: Door, target: str) -> None:
    assert door.ask(f"GET {target} HTTP/1.1") == (400, "invalid_request", b"")
    assert door.came() == 0


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v2/models",
        "/V1/models",
        "/%761/models",
        "/v1%2Fmodels",
        "/v1.0/models",
        "/manage/projects",
        "/healthy",
    ],
)
def test_paths_elsewhere(door: Door, path: str) -> None:
    assert door.ask(f"GET {path} HTTP/1.1") == (404, "not_found", b"")
    assert door.came() == 0


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PROPFIND", "get", "Post", "PRI", "X" * 1000])
def test_methods_that_do_not_go_upstream(door: Door, method: str) -> None:
    assert door.ask(f"{method} /v1/models HTTP/1.1") == (405, "method_not_allowed", b"")
    assert door.came() == 0


@pytest.mark.parametrize(
    "line", ["CONNECT other.example:443 HTTP/1.1", "CONNECT /v1/models HTTP/1.1", "PRI * HTTP/2.0"]
)
def test_tunnels_and_other_protocols(door: Door, line: str) -> None:
    assert door.ask(line) == (400, "invalid_request", b"")
    assert door.came() == 0


@pytest.mark.parametrize(
    "headers",
    [
        ["Host: other.example"],
        ["Host: other.example:1234", "X-Forwarded-Host: other.example"],
        ["Host: [::1]:9"],
    ],
)
def test_a_host_header_leads_nowhere_else(door: Door, headers: list[str]) -> None:
    status, _, received = door.ask("GET /v1/models HTTP/1.1", *headers)
    assert status == 200
    assert f"\r\nHost: 127.0.0.1:{door.upstream.port}\r\n".encode() in received
    assert received.lower().count(b"\r\nhost: ") == 1
    assert b"other.example" not in received


@pytest.mark.parametrize("upgrade", ["h2c", "websocket", "TLS/1.0"])
def test_an_upgrade_to_something_else_is_not_passed_on(door: Door, upgrade: str) -> None:
    status, _, received = door.ask(
        "GET /v1/models HTTP/1.1",
        "Host: x",
        "Connection: Upgrade, HTTP2-Settings",
        f"Upgrade: {upgrade}",
        "HTTP2-Settings: AAMA",
    )
    assert status == 200
    assert b"upgrade" not in received.lower()
    assert b"http2-settings" not in received.lower()


@pytest.mark.parametrize(
    "mode",
    [
        "regular",
        "socks5",
        "dns",
        "upstream:http://127.0.0.1:9",
        "reverse:tcp://127.0.0.1:9",
        "reverse:tls://127.0.0.1:9",
        "reverse:udp://127.0.0.1:9",
        "reverse:dns://127.0.0.1:9",
        "reverse:http3://127.0.0.1:9",
    ],
)
def test_other_modes_end_the_start(tmp_path: Path, mode: str) -> None:
    gateway = Gateway(tmp_path, "http://127.0.0.1:9")
    command = [tool("mitmdump"), "-s", "addon/proxy.py", "--mode", f"{mode}@127.0.0.1:{free_port()}"]
    process = Process(command, env=gateway.env, log=tmp_path / "proxy.log")
    assert process.wait() == 1
    assert "reverse mode only" in process.output()


def test_http3_and_other_datagrams_are_dropped(tmp_path: Path) -> None:
    """mitmproxy opens UDP beside TCP where the upstream speaks https."""
    quic = QuicConnection(configuration=QuicConfiguration(is_client=True, alpn_protocols=["h3"]))
    quic.connect(("127.0.0.1", 443), now=0)
    with (
        RawUpstream(answer_all()) as upstream,
        Gateway.start(tmp_path, f"https://127.0.0.1:{upstream.port}") as gateway,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.connect(("127.0.0.1", gateway.port))
        for datagram in [
            *(data for data, _ in quic.datagrams_to_send(now=0)),
            b"nonsense",
            b"GET /v1/models HTTP/1.1\r\n\r\n",
        ]:
            client.send(datagram)
        gateway.proxies[0].process.wait_for_output("client kill connection")
        assert upstream.conversations == []
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(2000)
    assert "Traceback" not in gateway.logs()
