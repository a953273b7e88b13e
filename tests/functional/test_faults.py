"""A request that a fault hits gets its specified response in time, all others go on, and nothing needs a restart.

With `-s` the tests print the times.
"""

import contextlib
import resource
import socket
import sqlite3
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx
import pytest
from support.gateway.gateway import Gateway, Way, bearer
from support.gateway.processes import DEADLINE, Process, free_port, running, tool
from support.network.certificates import Authority
from support.upstreams.upstreams import KEY, OK, Conversation, RawUpstream, answer_all

TIMEOUT = 0.5
"""Seconds of each timeout of the gateway in these tests."""

LOCKED = 4 * TIMEOUT
"""Seconds for which the store is locked: many times as long as a request waits for it."""

IN_TIME = TIMEOUT + 4
"""Seconds within which each answer must be there, on a busy machine too."""

BAD_KEY = "sk-of-the-project-that-is-hit"

type Fault = Callable[[Conversation], None]


class Outcome(NamedTuple):
    """An answer of the gateway."""

    status: int
    code: str | None


UPSTREAM_FAILED = Outcome(503, "service_unavailable")
UPSTREAM_SILENT = Outcome(504, "upstream_timeout")
STORE_FAILED = Outcome(503, "store_unavailable")
GATEWAY_FAILED = Outcome(500, "internal_error")
FINE = Outcome(200, None)


class Client:
    """A client with a token, on one kept-alive connection."""

    def __init__(self, gateway: Gateway, token: dict[str, Any]) -> None:
        self._client = httpx.Client(base_url=gateway.url, headers=bearer(token), timeout=IN_TIME)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, path: str = "/v1/models") -> Outcome:
        response = self._client.get(path)
        return Outcome(response.status_code, response.json().get("code"))


@contextlib.contextmanager
def two_projects(gateway: Gateway) -> Iterator[tuple[Client, Client, dict[str, Any]]]:
    """Yield a client of the project that is hit, one of another, and the token of the former."""
    token = gateway.make_token(gateway.make_project("Hit", BAD_KEY)["id"])
    with Client(gateway, token) as hit, Client(gateway, gateway.make_token()) as other:
        yield hit, other, token


def report(fault: str, outcome: object, started: float, recovered: float | None = None) -> None:
    back = "" if recovered is None else f", fine again after {time.monotonic() - recovered:.2f} s"
    print(f"{fault}: {outcome} after {(recovered or time.monotonic()) - started:.2f} s{back}")


# The upstream, for one project.


def say(data: bytes) -> Fault:
    """Send this, and hang up."""
    return lambda conversation: conversation.send(data)


def say_and_stay(data: bytes) -> Fault:
    def answer(conversation: Conversation) -> None:
        conversation.send(data)
        conversation.wait_until_closed()

    return answer


def reset(conversation: Conversation) -> None:
    conversation.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def send_headers_without_end(conversation: Conversation) -> None:
    conversation.send(HEAD)
    while True:
        conversation.send(b"X-More: %s\r\n" % (b"x" * 1000))
        if conversation.closed.wait(0.01):
            return


HEAD = b"HTTP/1.1 200 OK\r\n"
EMPTY = b"Content-Length: 0\r\n\r\n"
BEFORE_THE_ANSWER = {
    "hangs up": (say(b""), UPSTREAM_FAILED),
    "resets": (reset, UPSTREAM_FAILED),
    "is silent": (say_and_stay(b""), UPSTREAM_SILENT),
    "is silent in its headers": (say_and_stay(HEAD + b"Content-Le"), UPSTREAM_SILENT),
    "sends headers without end": (send_headers_without_end, UPSTREAM_SILENT),
    "is cut in its headers": (say(HEAD + b"Content-Le"), UPSTREAM_FAILED),
    "is cut in a small body": (say(HEAD + b"Content-Length: 10\r\n\r\nhello"), UPSTREAM_FAILED),
    "says nothing after 100 Continue": (say(b"HTTP/1.1 100 Continue\r\n\r\n"), UPSTREAM_FAILED),
    "speaks nonsense": (say(b"nonsense\r\n\r\n"), UPSTREAM_FAILED),
    "speaks nonsense without lines": (say_and_stay(bytes(100_000)), UPSTREAM_SILENT),
    "speaks HTTP/0.9": (say(b"<html>"), UPSTREAM_FAILED),
    "speaks HTTP/2": (say(b"\0\0\x12\4\0\0\0\0\0\0\3\0\0\0\x64\0\4\0\x10\0\0\0\6\0\4\0\0"), UPSTREAM_FAILED),
    "speaks HTTP/9.9": (say(b"HTTP/9.9 200 OK\r\n" + EMPTY), UPSTREAM_FAILED),
    "speaks TLS": (say(b"\x15\3\3\0\2\2\x28"), UPSTREAM_FAILED),
    "has no status": (say(b"HTTP/1.1 OK\r\n" + EMPTY), UPSTREAM_FAILED),
    "has status 99": (say(b"HTTP/1.1 99 OK\r\n" + EMPTY), UPSTREAM_FAILED),
    "has status 9999": (say(b"HTTP/1.1 9999 OK\r\n" + EMPTY), UPSTREAM_FAILED),
    "switches protocols unasked": (say_and_stay(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), UPSTREAM_FAILED),
    "has a header without a colon": (say(HEAD + b"no colon\r\n" + EMPTY), UPSTREAM_FAILED),
    "has a blank in a header's name": (say(HEAD + b"a b: c\r\n" + EMPTY), UPSTREAM_FAILED),
    "has two lengths": (say(HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), UPSTREAM_FAILED),
    "has a negative length": (say(HEAD + b"Content-Length: -1\r\n\r\n"), UPSTREAM_FAILED),
    "has a length and chunks": (
        say(HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
        UPSTREAM_FAILED,
    ),
}

IN_THE_ANSWER = {
    "is cut in a large body": HEAD + b"Content-Length: 10000000\r\n\r\nhello",
    "is cut in its chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "sends chunks that are none": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n",
    "is cut in an event stream": HEAD + b"Content-Type: text/event-stream\r\nContent-Length: 20\r\n\r\nhello",
}


def hit_one_project(fault: Fault) -> Fault:
    """Answer the requests of one project with the fault, all others well."""

    def answer(conversation: Conversation) -> None:
        while BAD_KEY.encode() not in conversation.read_head():
            conversation.send(OK)
        fault(conversation)

    return answer


@pytest.fixture(scope="module")
def upstream() -> Iterator[RawUpstream]:
    with RawUpstream(answer_all()) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, upstream: RawUpstream, way: Way, path: str) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp(way)
    with Gateway.start(folder, upstream.url, way=way, FIRST_BYTE_TIMEOUT=str(TIMEOUT), PLAIN_PATH=path) as gateway:
        yield gateway


@pytest.mark.parametrize("fault", BEFORE_THE_ANSWER)
def test_an_upstream_that_fails_before_its_response_is_503_or_504(
    gateway: Gateway, upstream: RawUpstream, fault: str
) -> None:
    how, decided = BEFORE_THE_ANSWER[fault]
    with two_projects(gateway) as (hit, other, token):
        assert other.ask() == FINE
        upstream.forget()
        upstream.answer = hit_one_project(how)
        started = time.monotonic()
        assert hit.ask() == decided
        answered = time.monotonic()
        assert other.ask() == FINE
        assert upstream.conversations[0].closed.wait(DEADLINE)
        upstream.answer = answer_all()
        again = time.monotonic()
        assert hit.ask() == FINE
        report(f"the upstream {fault}", decided, started - (again - answered), again)
        assert gateway.token(token["id"])["request_count"] == 2


@pytest.mark.parametrize("fault", IN_THE_ANSWER)
def test_an_upstream_that_fails_in_its_response_cuts_it(gateway: Gateway, upstream: RawUpstream, fault: str) -> None:
    """Bytes that were passed on cannot be taken back: a cut shows the client that the response is not whole."""
    with two_projects(gateway) as (hit, other, token):
        upstream.answer = hit_one_project(say(IN_THE_ANSWER[fault]))
        started = time.monotonic()
        with pytest.raises(httpx.RemoteProtocolError):
            hit.ask()
        report(f"the upstream {fault}", "the answer is cut", started)
        assert other.ask() == FINE
        upstream.answer = answer_all()
        assert hit.ask() == FINE
        assert gateway.token(token["id"])["request_count"] == 2


def test_an_upstream_that_hangs_up_on_an_upload_is_503(gateway: Gateway, upstream: RawUpstream) -> None:
    token = gateway.make_token()
    upstream.answer = hang_up_after_the_headers
    with httpx.Client(base_url=gateway.url, headers=bearer(token), timeout=IN_TIME) as client:
        response = client.post("/v1/files", content=bytes(5_000_000))
        assert (response.status_code, response.json()["code"]) == UPSTREAM_FAILED
        upstream.answer = answer_all()
        assert client.get("/v1/models").status_code == 200


def hang_up_after_the_headers(conversation: Conversation) -> None:
    conversation.read_head()


# The upstream, for all projects.


def test_an_upstream_that_comes_back_is_used_again(tmp_path: Path) -> None:
    port = free_port()
    with Gateway.start(tmp_path, f"http://127.0.0.1:{port}") as gateway:
        token = gateway.make_token()
        with Client(gateway, token) as client:
            started = time.monotonic()
            assert client.ask() == UPSTREAM_FAILED
            answered = time.monotonic()
            with RawUpstream(answer_all(), port):
                again = time.monotonic()
                assert client.ask() == FINE
                report("the upstream is down", UPSTREAM_FAILED, started + again - answered, again)
            assert client.ask() == UPSTREAM_FAILED
            with RawUpstream(answer_all(), port):
                assert client.ask() == FINE
        assert gateway.token(token["id"])["request_count"] == 4


def test_an_upstream_that_accepts_no_connections_is_503(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        with contextlib.ExitStack() as waiting:
            for _ in range(3):  # fill the queue
                sock = waiting.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex(address)
            with (
                Gateway.start(tmp_path, f"http://127.0.0.1:{address[1]}", CONNECT_TIMEOUT=str(TIMEOUT)) as gateway,
                Client(gateway, gateway.make_token()) as client,
            ):
                started = time.monotonic()
                assert client.ask() == UPSTREAM_FAILED
                report("the upstream takes no connections", UPSTREAM_FAILED, started)
                assert client.ask("/health").status == 200


def test_an_upstream_name_that_does_not_resolve_is_503(tmp_path: Path) -> None:
    """A scope that no interface has: the resolver fails as for a name that does not exist, but asks no server."""
    with (
        Gateway.start(tmp_path, "http://[fe80::1%nowhere]:80") as gateway,
        Client(gateway, gateway.make_token()) as client,
    ):
        started = time.monotonic()
        assert client.ask() == UPSTREAM_FAILED
        report("the upstream's name leads nowhere", UPSTREAM_FAILED, started)


class TlsUpstream(RawUpstream):
    """An upstream that speaks TLS, with a context that the test chooses for each connection."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        super().__init__(self._shake_hands)
        self.url = f"https://localhost:{self.port}"
        self.requests: list[bytes] = []

    def _shake_hands(self, conversation: Conversation) -> None:
        with self.context.wrap_socket(conversation.sock, server_side=True) as secure:
            while data := secure.recv(65536):
                self.requests.append(data)
                secure.sendall(OK)


def test_a_wrong_certificate_gets_no_request(tmp_path: Path) -> None:
    """A wrong one gets no byte of a request; a good one of an authority that mitmproxy is set to trust works."""
    trusted, unknown = Authority(tmp_path), Authority(make_folder(tmp_path / "unknown"))
    wrong = {
        "is of an unknown authority": unknown.server("localhost"),
        "has another name": trusted.server("other.example"),
        "has expired": trusted.server("localhost", ended=True),
    }
    make_folder(tmp_path / "data" / "mitmproxy").joinpath("config.yaml").write_text(
        f"ssl_verify_upstream_trusted_ca: {trusted.file}\n"
    )
    with (
        TlsUpstream(trusted.server("localhost")) as upstream,
        Gateway.start(tmp_path, upstream.url) as gateway,
    ):
        good, token = upstream.context, gateway.make_token()
        for fault, context in wrong.items():
            upstream.context = context
            upstream.hang_up()
            with Client(gateway, token) as client:
                started = time.monotonic()
                assert client.ask() == UPSTREAM_FAILED, fault
                assert upstream.requests == []
                upstream.context = good
                again = time.monotonic()
                assert client.ask() == FINE
            report(f"the certificate {fault}", UPSTREAM_FAILED, started, again)
            upstream.requests.clear()


def make_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("way_to_fail", ["is silent in the handshake", "speaks plain HTTP"])
def test_an_upstream_without_tls_is_503(tmp_path: Path, way_to_fail: str) -> None:
    how = Conversation.wait_until_closed if "silent" in way_to_fail else say(b"HTTP/1.1 400 Bad Request\r\n" + EMPTY)
    with (
        RawUpstream(how) as upstream,
        Gateway.start(tmp_path, f"https://127.0.0.1:{upstream.port}", CONNECT_TIMEOUT=str(TIMEOUT)) as gateway,
        Client(gateway, gateway.make_token()) as client,
    ):
        started = time.monotonic()
        assert client.ask() == UPSTREAM_FAILED
        report(f"the upstream {way_to_fail}", UPSTREAM_FAILED, started)
        assert KEY.encode() not in upstream.received()


# The store.


@contextlib.contextmanager
def locked(gateway: Gateway) -> Iterator[None]:
    """Hold the write lock of the store."""
    store = sqlite3.connect(gateway.data / "llm-proxy.db", isolation_level=None)
    try:
        store.execute("BEGIN IMMEDIATE")
        yield
    finally:
        store.close()


def test_a_locked_store_refuses_and_counts_nothing_later(tmp_path: Path) -> None:
    """Both ports answer in time all the while, a stream goes on, and nothing that was refused is counted later."""
    stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    unlocked = threading.Event()

    def answer(conversation: Conversation) -> None:
        while b"/v1/stream " not in conversation.read_head():
            conversation.send(OK)
        conversation.send(stream + b"1\r\na\r\n")
        unlocked.wait(DEADLINE)
        conversation.send(b"1\r\nb\r\n0\r\n\r\n")

    with (
        RawUpstream(answer) as upstream,
        Gateway.start(tmp_path, upstream.url, STORE_TIMEOUT=str(TIMEOUT)) as gateway,
    ):
        token = gateway.make_token()
        patch = ("PATCH", f"/manage/tokens/{token['id']}", {"max_requests": 5})
        with (
            Client(gateway, token) as client,
            httpx.stream("GET", f"{gateway.url}/v1/stream", headers=bearer(token), timeout=DEADLINE) as streamed,
        ):
            parts = streamed.iter_raw()
            first = next(parts)
            with locked(gateway):
                started, answers = time.monotonic(), []
                while time.monotonic() < started + LOCKED:
                    asked = time.monotonic()
                    answers.append(client.ask())
                    assert time.monotonic() - asked < IN_TIME
                assert gateway.manage(*patch).json()["code"] == "store_unavailable"
                assert gateway.manage("GET", f"/manage/tokens/{token['id']}").json()["request_count"] == 1
            again = time.monotonic()
            assert client.ask() == FINE
            report(f"the store is locked ({len(answers)} requests)", set(answers), again - TIMEOUT, again)
            unlocked.set()
            assert (first, *parts) == (b"a", b"b")
        assert set(answers) == {STORE_FAILED}
        assert gateway.manage(*patch).status_code == 200
        assert gateway.token(token["id"])["request_count"] == 2


@contextlib.contextmanager
def full_disk(*processes: Process) -> Iterator[None]:
    """Let no file of these processes grow: their writes fail as on a full disk, or past a quota."""
    for process in processes:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        for process in processes:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_a_full_disk_refuses_until_there_is_room(tmp_path: Path, upstream: RawUpstream) -> None:
    upstream.answer = answer_all()
    with Gateway.start(tmp_path, upstream.url) as gateway, two_projects(gateway) as (client, _, token):
        assert gateway.management is not None
        patch = ("PATCH", f"/manage/tokens/{token['id']}", {"max_requests": 5})
        assert client.ask() == FINE
        upstream.forget()
        with full_disk(gateway.proxies[0].process, gateway.management):
            started = time.monotonic()
            assert [client.ask() for _ in range(10)] == [STORE_FAILED] * 10
            answered = time.monotonic()
            assert gateway.manage(*patch).json()["code"] == "store_unavailable"
            assert gateway.manage("GET", f"/manage/tokens/{token['id']}").json()["request_count"] == 1
            assert client.ask("/health").status == 200
            assert client.ask("/ready") == STORE_FAILED
        again = time.monotonic()
        assert client.ask() == FINE
        report("the disk is full", STORE_FAILED, again - (answered - started) / 10, again)
        assert gateway.manage(*patch).status_code == 200
        found = gateway.token(token["id"])
        assert (found["request_count"], found["max_requests"]) == (2, 5)


def test_a_key_that_cannot_be_decrypted_is_500(gateway: Gateway, upstream: RawUpstream) -> None:
    upstream.answer = answer_all()
    with two_projects(gateway) as (hit, other, token):
        assert hit.ask() == FINE
        with sqlite3.connect(gateway.data / "llm-proxy.db") as store:
            columns = "sealed_api_key = zeroblob(60)"
            store.execute(f"UPDATE project SET {columns} WHERE id = ?", (token["project_id"],))  # noqa: S608
        store.close()
        upstream.forget()
        started = time.monotonic()
        assert hit.ask() == GATEWAY_FAILED
        assert other.ask() == FINE
        repair = {"api_key": BAD_KEY}
        gateway.manage("PATCH", f"/manage/projects/{token['project_id']}", repair).raise_for_status()
        again = time.monotonic()
        assert hit.ask() == FINE
        report("a project's key cannot be decrypted", GATEWAY_FAILED, started, again)
        assert gateway.token(token["id"])["request_count"] == 2


# The gateway itself.

BREAKER = """
from addon import access_log, forwarding, validation


def breaking(function, where):
    def broken(*arguments):
        if any(f"/v1/break-{where}" in getattr(getattr(one, "request", one), "path", "") for one in arguments):
            raise RuntimeError("a secret")
        return function(*arguments)
    return broken


validation.check = breaking(validation.check, "requestheaders")
validation.is_own = breaking(validation.is_own, "request")
forwarding.is_final_response = breaking(forwarding.is_final_response, "responseheaders")
access_log.write = breaking(access_log.write, "end")
"""


def test_a_hook_that_raises_is_500(tmp_path: Path, upstream: RawUpstream) -> None:
    upstream.answer = answer_all()
    breaker = tmp_path / "breaker.py"
    breaker.write_text(BREAKER)
    gateway = Gateway(tmp_path, upstream.url)
    port = free_port()
    command = [tool("mitmdump"), "-s", "addon/proxy.py", "-s", str(breaker)]
    command += ["--mode", f"reverse:{upstream.url}@127.0.0.1:{port}"]
    with contextlib.ExitStack() as stack:
        stack.callback(gateway.stop)
        gateway.start_management()
        token = gateway.make_token()
        process = Process(command, env=gateway.env, log=tmp_path / "proxy.log")
        stack.enter_context(running(process))
        process.wait_for_port(port)
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=bearer(token)))
        upstream.forget()
        for where in ("requestheaders", "request"):
            started = time.monotonic()
            response = client.get(f"/v1/break-{where}")
            assert (response.status_code, response.json()["code"]) == GATEWAY_FAILED
            report(f"the hook {where} raises", GATEWAY_FAILED, started)
        assert upstream.conversations == []
        assert gateway.token(token["id"])["request_count"] == 0
        response = client.get("/v1/break-responseheaders")
        assert (response.status_code, response.json()["code"]) == GATEWAY_FAILED
        assert "secret" not in response.text
        assert client.get("/v1/break-end").status_code == 200
        assert client.get("/v1/models").status_code == 200
        assert gateway.token(token["id"])["request_count"] == 3
