"""Only /v1 of the one upstream can be reached, by HTTP in reverse mode over TCP: everything else is refused before any
connection to the upstream, even with a good token."""

import json
import socket
from pathlib import Path

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from support.clients.raw_client import RawClient
from support.gateway.gateway import Gateway
from support.gateway.processes import Process, free_port, tool
from support.gateway.relay import Relay
from support.upstreams.upstreams import RawUpstream, answer_all


def ask(relay: Relay, line: str, *headers: str) -> tuple[int, str | None, bytes]:
    """Send a request with a good token; return status and code of the answer, and the bytes that the upstream got."""
    relay.expect()
    with RawClient(relay.gateway.port) as client:
        client.send(relay.head(line, *headers))
        head, body = client.read_answer()
    return int(head.split(b" ")[1]), json.loads(body).get("code"), relay.upstream.received()


def check_refused(relay: Relay, line: str, status: int, code: str) -> None:
    assert ask(relay, line) == (status, code, b"")
    assert relay.upstream.conversations == []


def test_a_good_request_passes(relay: Relay) -> None:
    status, _, received = ask(relay, "GET /v1/models HTTP/1.1")
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
def test_targets_other_than_a_plain_path_are_400(relay: Relay, target: str) -> None:
    check_refused(relay, f"GET {target} HTTP/1.1", 400, "invalid_request")


@pytest.mark.parametrize(
    "target",
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
def test_paths_outside_v1_are_404(relay: Relay, target: str) -> None:
    check_refused(relay, f"GET {target} HTTP/1.1", 404, "not_found")


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PROPFIND", "get", "Post", "PRI", "X" * 1000])
def test_other_methods_are_405(relay: Relay, method: str) -> None:
    check_refused(relay, f"{method} /v1/models HTTP/1.1", 405, "method_not_allowed")


@pytest.mark.parametrize(
    "line", ["CONNECT other.example:443 HTTP/1.1", "CONNECT /v1/models HTTP/1.1", "PRI * HTTP/2.0"]
)
def test_tunnels_and_other_protocols_are_400(relay: Relay, line: str) -> None:
    check_refused(relay, line, 400, "invalid_request")


@pytest.mark.parametrize(
    "headers",
    [
        ["Host: other.example"],
        ["Host: other.example:1234", "X-Forwarded-Host: other.example"],
        ["Host: [::1]:9"],
    ],
)
def test_a_host_header_does_not_change_the_destination(relay: Relay, headers: list[str]) -> None:
    status, _, received = ask(relay, "GET /v1/models HTTP/1.1", *headers)
    assert status == 200
    assert f"\r\nHost: 127.0.0.1:{relay.upstream.port}\r\n".encode() in received
    assert received.lower().count(b"\r\nhost: ") == 1
    assert b"other.example" not in received


@pytest.mark.parametrize("upgrade", ["h2c", "websocket", "TLS/1.0"])
def test_other_upgrades_are_not_forwarded(relay: Relay, upgrade: str) -> None:
    status, _, received = ask(
        relay,
        "GET /v1/models HTTP/1.1",
        "Connection: Upgrade, HTTP2-Settings",
        f"Upgrade: {upgrade}",
        "HTTP2-Settings: AAMA",
    )
    assert status == 200
    assert b"upgrade" not in received.lower()
    assert b"http2-settings" not in received.lower()


@pytest.mark.parametrize("mode", ["regular", "reverse:udp://127.0.0.1:9"])  # the others: addon/test_gateway.py
def test_other_modes_of_mitmproxy_end_the_start(tmp_path: Path, mode: str) -> None:
    gateway = Gateway(tmp_path, "http://127.0.0.1:9")
    command = [tool("mitmdump"), "-s", "addon/proxy.py", "--mode", f"{mode}@127.0.0.1:{free_port()}"]
    process = Process(command, env=gateway.env, log=tmp_path / "proxy.log")
    assert process.wait() == 1
    assert "reverse mode only" in process.output()


def test_http3_and_other_datagrams_are_dropped(tmp_path: Path) -> None:
    """mitmdump opens UDP beside TCP where the upstream speaks https; the launcher does not."""
    quic = QuicConnection(configuration=QuicConfiguration(is_client=True, alpn_protocols=["h3"]))
    quic.connect(("127.0.0.1", 443), now=0)
    with (
        RawUpstream(answer_all()) as upstream,
        Gateway.start(tmp_path, f"https://127.0.0.1:{upstream.port}", way="mitmdump") as gateway,
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
