"""The port, over real sockets."""

import contextlib
import http.client
import json
import signal
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.gateway.processes import Process, clean_environment, python

from manage_api.contract import MAX_BODY
from manage_api.server import MAX_HEADERS, MAX_READ, Server
from store.errors import StartupError
from store.runtime.settings import Listen

TOKEN = "management-token-of-the-tests"
AUTH = {"Authorization": f"Bearer {TOKEN}"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(folder: Path, port: int, **settings: str) -> Process:
    environment = {
        "DATA_DIR": str(folder / "data"),
        "MANAGEMENT_TOKEN": TOKEN,
        "MANAGE_LISTEN": f"127.0.0.1:{port}",
        "LOG_LEVEL": "debug",
        "LOG_FORMAT": "json",
    }
    return Process(
        python("-m", "manage_api"),
        cwd=folder,
        env={**clean_environment(), **environment, **settings},
        log=folder / "server.log",
        forked=True,
    )


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def end(process: Process, *signals: signal.Signals) -> list[dict[str, Any]]:
    """Send the signals, expect a clean end and return the log."""
    for number in signals:
        process.signal(number)
    assert process.wait() == 0, process.output()
    return [json.loads(line) for line in process.output().splitlines()]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    process = start(tmp_path_factory.mktemp("server"), port)
    try:
        wait_for(port)
        yield port
        end(process, signal.SIGTERM)
    finally:
        process.kill()


def send(port: int, raw: bytes) -> http.client.HTTPResponse:
    """Send bytes on a connection of their own; the answer's body is read."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(raw)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        answer.text = answer.read().decode()  # type: ignore[attr-defined]
        return answer


def check(answer: http.client.HTTPResponse, status: int, code: str) -> None:
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Server"] is None
    assert answer.headers.get_all("X-Request-ID") == [answer.headers["X-LLM-Proxy-Request-Id"]]
    assert uuid.UUID(answer.headers["X-Request-ID"]).version == 7
    body = json.loads(answer.text)  # type: ignore[attr-defined]
    assert set(body) == {"error", "code", "message"}
    assert body["code"] == code


def request(*lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


POST = (
    "POST /manage/projects HTTP/1.1",
    "Host: a",
    f"Authorization: Bearer {TOKEN}",
    "Content-Type: application/json",
)


@pytest.mark.parametrize(
    "raw",
    [
        request("NONSENSE"),
        request("get /health HTTP/1.1", "Host: a"),
        request("GET /health HTTP/1.1", "Host a"),
        request("GET /health HTTP/1.1", "Host: a", "Content-Length: -1"),
        request("POST /health HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", body=b"zz\r\nx\r\n"),
    ],
)
def test_malformed_http_is_refused(port: int, raw: bytes) -> None:
    check(send(port, raw), 400, "invalid_request")


def test_headers_that_are_too_large_are_refused(port: int) -> None:
    raw = request("GET /health HTTP/1.1", "Host: a", "X: " + "x" * MAX_HEADERS)
    check(send(port, raw), 431, "headers_too_large")


def test_an_unknown_transfer_encoding_is_refused(port: int) -> None:
    check(send(port, request(*POST, "Transfer-Encoding: gzip")), 501, "transfer_encoding_unknown")


def test_a_huge_body_is_refused_unread(port: int) -> None:
    check(send(port, request(*POST, f"Content-Length: {MAX_READ}")), 413, "request_too_large")


@pytest.mark.parametrize("size", [MAX_BODY + 1, 5 * MAX_BODY])
def test_a_body_that_is_too_large_is_refused(port: int, size: int) -> None:
    body = b" " * size
    check(send(port, request(*POST, f"Content-Length: {size}", body=body)), 413, "request_too_large")
    chunk = f"{size:x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    check(send(port, request(*POST, "Transfer-Encoding: chunked", body=chunk)), 413, "request_too_large")


def test_a_repeated_authorization_is_refused(port: int) -> None:
    check(send(port, request(*POST, f"Authorization: Bearer {TOKEN}")), 401, "unauthorized")


def test_a_chunked_body_is_accepted(port: int) -> None:
    body = b'1c\r\n{"name":"n","api_key":"k"}  \r\n0\r\n\r\n'
    assert send(port, request(*POST, "Transfer-Encoding: chunked", body=body)).status == 201


def test_the_connection_is_kept(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        for _ in range(3):
            connection.request("GET", "/manage/projects", headers=AUTH)
            answer = connection.getresponse()
            assert answer.status == 200
            assert answer.headers["Server"] is None
            answer.read()


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGTERM] * 2, [signal.SIGINT] * 2])
def test_signals_end_it_cleanly(tmp_path: Path, signals: list[signal.Signals]) -> None:
    port = free_port()
    process = start(tmp_path, port)
    wait_for(port)
    with socket.create_connection(("127.0.0.1", port)):  # an idle connection is no reason to stay
        end(process, *signals)


def test_requests_under_way_are_finished(tmp_path: Path) -> None:
    port = free_port()
    process = start(tmp_path, port, STORE_TIMEOUT="20")
    wait_for(port)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    blocker = sqlite3.connect(tmp_path / "data" / "llm-proxy.db", isolation_level=None)
    with contextlib.closing(blocker), contextlib.closing(connection):
        blocker.execute("BEGIN IMMEDIATE")
        body = json.dumps({"name": "n", "api_key": "sk-secret"})
        connection.request("POST", "/manage/projects", body, {**AUTH, "Content-Type": "application/json"})
        time.sleep(0.5)
        process.signal(signal.SIGTERM)
        time.sleep(0.5)
        process.signal(signal.SIGTERM)
        blocker.execute("ROLLBACK")
        assert connection.getresponse().status == 201
    end(process)


def test_the_log_has_no_secret(tmp_path: Path) -> None:
    port = free_port()
    process = start(tmp_path, port)
    wait_for(port)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def call(method: str, path: str, **body: object) -> Any:
        headers = {**AUTH, "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        return json.loads(text) if text else None

    with contextlib.closing(connection):
        project = call("POST", "/manage/projects", name="n", api_key="sk-secret")
        call("PATCH", f"/manage/projects/{project['id']}", api_key="sk-secret\n")
        call("PATCH", f"/manage/projects/{project['id']}", name="m")
        token = call("POST", "/manage/tokens", project_id=project["id"])["token"]
        for path in (
            f"/manage/tokens/{token}",
            f"/manage/token/{token}",
            f"/manage/tokens/{token}/x",
            f"/{token}",
        ):
            for method in ("GET", "PATCH", "DELETE", "PUT"):
                call(method, path)
    log = end(process, signal.SIGTERM)
    lines = [line for line in log if line["event"] == "request"]
    assert len(lines) == 4 + 4 * 4
    assert all(line["request_id"] for line in lines)
    assert {line["path"] for line in lines} >= {"/manage/tokens/<token>", f"/manage/projects/{project['id']}"}
    assert not any(secret in json.dumps(log) for secret in (TOKEN, token, "sk-secret"))


def test_a_port_in_use_ends_the_start(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        process = start(tmp_path, port)
        assert process.wait() == 1
    log = process.output()
    assert f"Cannot listen on 127.0.0.1:{port} (MANAGE_LISTEN): Address already in use." in log.splitlines()
    assert "Traceback" not in log


def test_bad_settings_end_the_start(tmp_path: Path) -> None:
    process = start(tmp_path, 1, MANAGE_LISTEN="nowhere", LOG_LEVEL="loud")
    assert process.wait() == 2
    log = process.output()
    assert log.startswith("Bad settings:\n")
    assert "MANAGE_LISTEN" in log
    assert "LOG_LEVEL" in log
    assert "Traceback" not in log


def test_an_empty_management_token_file_ends_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "management_token").touch()
    process = start(tmp_path, free_port(), MANAGEMENT_TOKEN="")
    assert process.wait() == 1
    log = process.output()
    assert log.endswith("The file management_token in DATA_DIR is empty. Remove it to get a new token.\n")


def test_an_unknown_host_is_refused() -> None:
    with pytest.raises(StartupError, match="no such address"):
        Server(lambda _environ, _start: [], Listen("no-such-host.invalid", 8081), 1)


def shown_address(environ: dict[str, Any], start: Any) -> list[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return [str(environ["REMOTE_ADDR"]).encode()]


@contextlib.contextmanager
def serving(app: Any, listen: Listen) -> Iterator[Server]:
    server = Server(app, listen, 1)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()
        server.shut_down()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_ipv6_any_address_accepts_ipv4_too_and_logs_plain_addresses(address: str) -> None:
    port = free_port()
    with serving(shown_address, Listen("::", port)), socket.create_connection((address, port), 10) as client:
        client.sendall(request("GET / HTTP/1.0", "Host: a"))
        assert client.makefile("rb").read().endswith(f"\r\n\r\n{address}".encode())


def test_a_client_is_kept_alive() -> None:
    port = free_port()
    with (
        serving(shown_address, Listen("127.0.0.1", port)) as server,
        socket.create_connection(("127.0.0.1", port), 10) as client,
    ):
        client.sendall(request("GET / HTTP/1.1", "Host: a"))
        assert client.recv(1)
        (channel,) = server._channels()  # noqa: SLF001
        assert channel.socket
        assert channel.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_an_ipv6_port_in_use_is_named() -> None:
    message = r"Cannot listen on \[::1\]:\d+ \(MANAGE_LISTEN\): Address already in use"
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other, pytest.raises(StartupError, match=message):
        Server(shown_address, Listen("::1", other.getsockname()[1]), 1)


def test_an_application_that_raises_is_a_500() -> None:
    def broken(_environ: object, _start: object) -> list[bytes]:
        raise RuntimeError

    port = free_port()
    with serving(broken, Listen("127.0.0.1", port)):
        check(send(port, request("GET / HTTP/1.1", "Host: a")), 500, "internal_error")
