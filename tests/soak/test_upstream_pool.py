"""nginx and HAProxy between the gateway and an upstream with TLS, with the very files of docs/deploy.

`./run.sh soak -s tests/soak/test_upstream_pool.py` prints the figures.
"""

import asyncio
import contextlib
import hashlib
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from support.clients.raw_client import RawClient
from support.gateway.gateway import Gateway, bearer
from support.gateway.processes import DEADLINE, wait_until
from support.network.certificates import Authority
from support.network.http_engine import KINDS, Kind
from support.network.upstream_pool import NAME, Pool
from support.upstreams.secure_stage import ADDRESSES, SecureStage
from support.upstreams.stage import Act, answer
from support.upstreams.upstreams import KEY, OK, Conversation, DemoUpstream, RawUpstream, json_response

pytestmark = pytest.mark.soak("addon/layers", "docs/deploy", "store/network")

EVENTS = 20
MAX_DELAY = 0.05
EVENT_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
BLOCK = bytes(range(256)) * 4096  # 1 MiB
BLOCKS = 20
SILENCE = 80
"""Seconds: more than 60 or 75, the default of most timeouts of either pool."""
MAX_MOVE = 60
"""Seconds until HAProxy has other addresses alone: `hold obsolete`, and its time to notice."""
UNAVAILABLE = (503, "service_unavailable")
"""The gateway's status and code where it got no response."""


@dataclass
class Pooled:
    """The gateway, its pool, the upstream, and a token."""

    authority: Authority
    api: SecureStage
    pool: Pool
    gateway: Gateway
    token: dict[str, Any]

    def client(self, *, timeout: float = DEADLINE) -> httpx.Client:
        return httpx.Client(base_url=self.gateway.url, headers=bearer(self.token), timeout=timeout)

    def raw(self) -> RawClient:
        return RawClient(self.gateway.port)

    def head(self, line: str, *headers: str) -> bytes:
        lines = [line, "Host: localhost", f"Authorization: Bearer {self.token['token']}", *headers]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    def ask(self, target: str = "/v1/models", method: str = "GET", **options: Any) -> httpx.Response:
        """Send a request as a new client."""
        with self.client() as client:
            return client.request(method, target, **options)

    def hang_up(self) -> None:
        """End all connections at the upstream's side, and give the pool the time to notice."""
        self.api.hang_up()
        time.sleep(0.1)


@pytest.fixture(scope="module", params=KINDS)
def running_pool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pooled]:
    folder = tmp_path_factory.mktemp(request.param)
    authority = Authority(folder)
    with (
        SecureStage(authority.server(NAME)) as api,
        Pool.start(request.param, folder, authority, api.port) as pool,
        Gateway.start(tmp_path_factory.mktemp("gateway"), pool.url) as gateway,
    ):
        pooled = Pooled(authority, api, pool, gateway, gateway.make_token())
        wait_until(lambda: pooled.ask().status_code == 200 and set(api.asked) == set(ADDRESSES))
        yield pooled


@pytest.fixture
def pooled(running_pool: Pooled) -> Pooled:
    running_pool.api.act = answer
    running_pool.api.heads.clear()
    return running_pool


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def outcome(answered: httpx.Response) -> tuple[int, str]:
    """Return the status and the code of an answer of the gateway itself."""
    return answered.status_code, answered.json()["code"]


def relay_to(port: int) -> Act:
    """Pass a connection on to a port of this machine, with the received part of its first request."""

    def relay(conversation: Conversation) -> None:
        reader, writer = conversation.sock, RawClient(port)
        with writer:
            writer.send(conversation.received)
            back = threading.Thread(target=pump, args=(writer.sock, reader))
            back.start()
            pump(reader, writer.sock)
            back.join()

    def pump(source: Any, sink: Any) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(2)

    return relay


def test_new_clients_share_connections(pooled: Pooled) -> None:
    before = len(pooled.api.connections())
    for _ in range(100):
        assert pooled.ask().status_code == 200
    sequential = len(pooled.api.connections()) - before
    with ThreadPoolExecutor(8) as threads:
        assert {answered.status_code for answered in threads.map(lambda _: pooled.ask(), range(100))} == {200}
    parallel = len(pooled.api.connections()) - before - sequential
    print(f"{pooled.pool.kind}: 100 new clients opened {sequential} connections upstream; 8 at a time {parallel}")
    assert sequential <= len(ADDRESSES)
    assert parallel <= 16


def test_the_key_appears_at_the_upstream_only(pooled: Pooled) -> None:
    secret = pooled.token["token"]
    answered = pooled.ask("/v1/models?key=secret-in-the-query", headers={"X-Request-ID": "mine"})
    assert answered.status_code == 200
    with pooled.api.presenting(Authority(pooled.gateway.folder).server(NAME)):
        assert outcome(pooled.ask("/v1/models?key=secret-in-the-query")) == UNAVAILABLE
    lines = pooled.api.heads[0].decode().lower().split("\r\n")
    assert f"authorization: bearer {KEY}" in lines
    assert f"host: {NAME}" in lines
    assert secret not in pooled.api.heads[0].decode()
    wait_until(lambda: "GET 200" in pooled.pool.logs())
    written = [path for path in pooled.pool.folder.rglob("*") if path.is_file() and path.suffix != ".pem"]
    texts = pooled.gateway.logs() + "".join(path.read_text(errors="replace") for path in written)
    for hidden in (KEY, secret, "secret-in-the-query"):
        assert hidden not in texts


@pytest.mark.parametrize("fault", ["is of an unknown authority", "has another name", "has expired"])
def test_a_wrong_certificate_gets_no_request(pooled: Pooled, tmp_path: Path, fault: str) -> None:
    wrong = {
        "is of an unknown authority": Authority(tmp_path).server(NAME),
        "has another name": pooled.authority.server("api.openai.com.example"),
        "has expired": pooled.authority.server(NAME, ended=True),
    }
    opened = len(pooled.api.connections())
    with pooled.api.presenting(wrong[fault]):
        for _ in range(3):
            assert outcome(pooled.ask("/v1/x", "POST", content=b"private")) == UNAVAILABLE
    tried = pooled.api.connections()[opened:]
    assert len(tried) >= 3
    assert b"".join(conversation.received for conversation in tried) == b""
    assert pooled.api.heads == []
    assert pooled.ask().status_code == 200


@pytest.mark.parametrize(
    "target",
    [
        "/v1/models/org%2Fname",
        "/v1/models/a%20b%3Fc?q=%2F%2e%2e&r=a//b/../c",
        "/v1/files/x/",
        "/v1/a;b=c,d/e:f@g!$&'()*+~",
        "/v1/%E2%82%AC?",
        '/v1/{braces}|<and>"so"^on`',
        "/v1/" + 30_000 * "x",
    ],
    ids=lambda target: target[:20],
)
def test_a_target_passes_as_it_was_written(pooled: Pooled, target: str) -> None:
    with pooled.raw() as client:
        client.send(pooled.head(f"GET {target} HTTP/1.1"))
        assert b" 200 " in client.read_head()
    assert pooled.api.heads[-1].startswith(f"GET {target} HTTP/1.1\r\n".encode())


def test_headers_pass(pooled: Pooled) -> None:
    many = [f"X-Many-{number}: {number}" for number in range(500)]
    with pooled.raw() as client:
        sent = ["X_Under.score: 1", "X-Request-ID: mine", "X-Large: " + 50_000 * "x", *many]
        client.send(pooled.head("GET /v1/models HTTP/1.1", *sent))
        assert b" 200 " in client.read_answer()[0]
    received = pooled.api.heads[-1].decode().lower()
    for line in sent:
        assert f"\r\n{line.lower()}\r\n" in received
    assert not [name for name in ("forwarded", "real-ip", "127.0.0.1", "via:") if name in received]


def test_response_headers_pass_and_do_not_steer_the_pool(pooled: Pooled) -> None:
    fields = {
        "server": "upstream/1",
        "date": "Thu, 01 Jan 1970 00:00:00 GMT",
        "x-request-id": "req_upstream",
        "set-cookie": "a=b",
        "location": "https://elsewhere.example/v1/elsewhere",
        "x-ratelimit-remaining-tokens": "7",
        "x-accel-redirect": "/v1/models",
        "x-accel-buffering": "yes",
        "x-large": 20_000 * "x",
    } | {f"x-many-{number}": str(number) for number in range(300)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    pooled.api.act = lambda conversation: conversation.send(
        f"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n{lines}\r\nbody".encode()
    )
    answered = pooled.ask()
    assert answered.text == "body"
    missing = {name for name, value in fields.items() if answered.headers.get(name) != value}
    print(f"{pooled.pool.kind}: taken out of answers: {missing}")
    assert not missing - {"x-accel-redirect", "x-accel-buffering"}


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (f"https://{NAME}/v1/new?a=%2F#b", "/v1/new?a=%2F#b"),
        (f"http://{NAME.upper()}:443/v1/new", "/v1/new"),
        (f"https://{NAME}", "/"),
        (f"https://{NAME}//elsewhere.example", "/.//elsewhere.example"),
        (f"https://{NAME}.example/v1/new", f"https://{NAME}.example/v1/new"),
        ("/v1/new", "/v1/new"),
    ],
)
def test_a_redirect_of_the_upstream_leads_back_to_the_gateway(pooled: Pooled, location: str, expected: str) -> None:
    lines = f"Location: {location}\r\nContent-Location: {location}\r\n"
    pooled.api.act = lambda conversation: conversation.send(
        f"HTTP/1.1 307 Temporary Redirect\r\nContent-Length: 0\r\n{lines}\r\n".encode()
    )
    answered = pooled.ask()
    assert (answered.status_code, answered.headers["location"], answered.headers["content-location"]) == (
        307,
        expected,
        expected,
    )


@pytest.mark.parametrize("status", [400, 429, 500, 502, 503, 504])
def test_errors_of_the_upstream_pass_unchanged(pooled: Pooled, status: int) -> None:
    body = {"error": {"message": "mine", "code": "upstreams_own"}}
    pooled.api.act = lambda conversation: conversation.send(json_response(body, status=f"{status} Anything"))
    answered = pooled.ask()
    assert (answered.status_code, answered.json()) == (status, body)


def test_bodies_pass_while_they_are_sent(pooled: Pooled) -> None:
    whole = hashlib.sha256()
    begun = threading.Event()

    def take(conversation: Conversation) -> None:
        _, _, body = conversation.received.partition(b"\r\n\r\n")
        left = len(BLOCK) * BLOCKS
        while True:
            whole.update(body)
            left -= len(body)
            if body:
                begun.set()
            if not left:
                break
            body = conversation.sock.recv(min(left, 2**16))
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(BLOCK) * BLOCKS))
        for _ in range(BLOCKS):
            conversation.send(BLOCK)

    pooled.api.act = take
    with pooled.raw() as client:
        client.send(pooled.head("POST /v1/files HTTP/1.1", f"Content-Length: {len(BLOCK) * BLOCKS}"))
        client.send(BLOCK)
        assert begun.wait(5)  # while the rest is not sent yet
        for _ in range(BLOCKS - 1):
            client.send(BLOCK)
        assert client.read_answer()[1] == BLOCK * BLOCKS
    assert whole.digest() == hashlib.sha256(BLOCK * BLOCKS).digest()
    assert pooled.pool.spooled() == []


def test_events_arrive_one_by_one(pooled: Pooled) -> None:
    def stream_timestamps(conversation: Conversation) -> None:
        conversation.send(EVENT_STREAM)
        for _ in range(EVENTS):
            conversation.send(chunk(b"data: %d\n\n" % time.monotonic_ns()))
            time.sleep(0.01)  # the pace of this upstream
        conversation.send(b"0\r\n\r\n")

    def delays(client: httpx.Client) -> list[float]:
        with client.stream("GET", "/v1/stream") as response:
            events = (line.removeprefix("data: ") for line in response.iter_lines() if line)
            return [(time.monotonic_ns() - int(event)) / 1e9 for event in events]

    pooled.api.act = stream_timestamps
    with pooled.client() as client:
        streams = [delays(client) for _ in range(5)]
    medians = [statistics.median(event) for event in zip(*streams, strict=True)]
    print(f"{pooled.pool.kind}: an event takes {max(medians) * 1000:.1f} ms at most (medians)")
    assert len(medians) == EVENTS
    assert max(medians) < MAX_DELAY


def test_the_sdk_and_its_realtime_sessions_pass(pooled: Pooled, tmp_path: Path) -> None:
    with DemoUpstream.start(tmp_path) as demo:
        pooled.api.act = relay_to(demo.port)
        pooled.hang_up()
        token = pooled.gateway.make_token()
        with openai.OpenAI(base_url=f"{pooled.gateway.url}/v1", api_key=token["token"]) as client:
            chat = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello!"}])
        assert "Hello!" in str(chat.choices[0].message.content)
        assert asyncio.run(converse(pooled.gateway, token["token"])) == ["session.created", "response.done"]
    assert pooled.gateway.token(token["id"])["request_count"] == 2
    pooled.hang_up()


async def converse(gateway: Gateway, token: str) -> list[str]:
    """Have a response made in a session, and return the types of its first and last event."""
    events: list[str] = []
    client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=token)
    async with client, client.realtime.connect(model="gpt-realtime") as connection:
        await connection.response.create()
        async for event in connection:
            events.append(event.type)
            if event.type == "response.done":
                break
    return [events[0], events[-1]]


def test_a_client_that_hangs_up_ends_its_request_upstream(pooled: Pooled) -> None:
    closed = threading.Event()

    def wait(conversation: Conversation) -> None:
        conversation.wait_until_closed()
        closed.set()

    def begin(conversation: Conversation) -> None:
        conversation.send(EVENT_STREAM + chunk(b"data: 1\n\n"))
        wait(conversation)

    pooled.api.act = wait
    with pooled.client(timeout=0.5) as client, pytest.raises(httpx.ReadTimeout):
        client.get("/v1/waits")
    assert closed.wait(5)
    closed.clear()
    pooled.api.act = begin
    with pooled.client() as client, client.stream("GET", "/v1/streams") as response:
        next(response.iter_lines())
        client.close()
        assert closed.wait(5)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "new"])
@pytest.mark.parametrize("begun", [b"", OK[:-1]], ids=["silent", "begun"])
def test_nothing_is_sent_twice(pooled: Pooled, method: str, kept: bool, begun: bytes) -> None:
    """The upstream dies over each request, on a connection that was used before or a new one."""

    def die(conversation: Conversation) -> None:
        conversation.send(begun)
        raise ConnectionError

    for number in range(10):
        pooled.api.act = answer
        if kept:
            assert [pooled.ask().status_code for _ in ADDRESSES] == [200 for _ in ADDRESSES]
        else:
            pooled.hang_up()
        pooled.api.act = die
        pooled.api.heads.clear()
        opened = len(pooled.api.connections())
        assert outcome(pooled.ask(f"/v1/once/{number}", method, content=b"{}")) == UNAVAILABLE
        assert [head.split()[1] for head in pooled.api.heads] == [f"/v1/once/{number}".encode()]
        assert (len(pooled.api.connections()) == opened) == kept


def test_an_upload_is_not_sent_twice(pooled: Pooled) -> None:
    """The upstream dies in the middle of it."""

    def die(conversation: Conversation) -> None:
        while len(conversation.received) < len(BLOCK):
            conversation.read_more()
        raise ConnectionError

    pooled.api.act = die
    for _ in range(5):
        pooled.api.heads.clear()
        with pooled.raw() as client:
            client.send(pooled.head("POST /v1/files HTTP/1.1", f"Content-Length: {len(BLOCK) * BLOCKS}"))
            with contextlib.suppress(ConnectionError):
                for _ in range(BLOCKS):
                    client.send(BLOCK)
            assert b" 503 " in client.read_head()
        assert len(pooled.api.heads) == 1


def test_bytes_that_an_upstream_sends_unasked_are_dropped(pooled: Pooled) -> None:
    poison = json_response({"poison": True})
    pooled.api.act = lambda conversation: conversation.send(OK + poison)
    assert [pooled.ask().json() for _ in range(20)] == 20 * [{}]
    pooled.api.act = answer
    assert pooled.ask().json() == {}


def test_an_upstream_that_comes_back_is_used_again(pooled: Pooled) -> None:
    with pooled.client() as kept:
        assert kept.get("/v1/models").status_code == 200
        pooled.api.stop()
        started = time.monotonic()
        for asking in (kept.get("/v1/models"), pooled.ask()):
            assert outcome(asking) == UNAVAILABLE
        print(f"{pooled.pool.kind}: two refusals took {time.monotonic() - started:.2f} s")
        pooled.api.listen()
        assert kept.get("/v1/models").status_code == 200
    assert pooled.ask().status_code == 200


def test_connections_that_the_upstream_has_closed_are_not_used(pooled: Pooled) -> None:
    for _ in range(20):
        assert pooled.ask().status_code == 200
        pooled.hang_up()
    assert pooled.ask().status_code == 200


def is_answering(pool: Pool) -> bool:
    try:
        return httpx.get(f"{pool.url}/v1/models").status_code == 200
    except httpx.RemoteProtocolError:
        return False


def is_asked_alone(api: SecureStage, address: str, pool: Pool) -> bool:
    """Return True if all requests go to this address."""
    api.asked.clear()
    for _ in range(8):
        assert httpx.get(f"{pool.url}/v1/models").status_code == 200
    return set(api.asked) == {address}


@pytest.mark.parametrize("kind", KINDS)
def test_new_addresses_are_used_and_streams_go_on(kind: Kind, tmp_path: Path) -> None:
    """HAProxy notices it by itself, nginx after a reload."""
    old, new = ADDRESSES
    go_on = threading.Event()

    def stream(conversation: Conversation) -> None:
        conversation.send(EVENT_STREAM + chunk(b"data: 1\n\n"))
        go_on.wait(2 * MAX_MOVE)
        conversation.send(chunk(b"data: 2\n\n") + b"0\r\n\r\n")

    authority = Authority(tmp_path)
    with (
        SecureStage(authority.server(NAME)) as api,
        Pool.start(kind, tmp_path, authority, api.port, addresses=[old]) as pool,
        httpx.Client(base_url=pool.url, timeout=2 * MAX_MOVE) as client,
    ):
        wait_until(lambda: is_answering(pool))
        api.act = stream
        with client.stream("GET", "/v1/streams") as response:
            lines = (line for line in response.iter_lines() if line)
            assert next(lines) == "data: 1"
            api.act = answer
            pool.move(new)
            started = time.monotonic()
            while not is_asked_alone(api, new, pool):
                assert time.monotonic() - started < MAX_MOVE
            print(f"{kind}: the new address alone is used after {time.monotonic() - started:.1f} s")
            go_on.set()
            assert next(lines) == "data: 2"


@pytest.mark.parametrize("kind", KINDS)
def test_a_handshake_that_does_not_go_on_is_given_up(kind: Kind, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with (
        RawUpstream(Conversation.wait_until_closed) as upstream,
        Pool.start(kind, tmp_path, authority, upstream.port, addresses=ADDRESSES[:1]) as pool,
    ):
        time.sleep(1)  # HAProxy has asked for the address by then
        started = time.monotonic()
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            httpx.post(f"{pool.url}/v1/x", headers={"Authorization": f"Bearer {KEY}"}, content=b"{}", timeout=30)
        print(f"{kind}: a handshake that does not go on is given up after {time.monotonic() - started:.1f} s")
        assert upstream.conversations
        assert KEY.encode() not in upstream.received()


@pytest.mark.parametrize("kind", KINDS)
def test_an_address_that_refuses_connections_is_passed_over(kind: Kind, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with (
        SecureStage(authority.server(NAME)) as api,
        Pool.start(kind, tmp_path, authority, api.port, addresses=[ADDRESSES[0], "127.0.0.3"]) as pool,
    ):
        wait_until(lambda: is_answering(pool))
        answered = [is_answering(pool) for _ in range(20)]
        print(f"{kind}: of 20 requests {answered.count(True)} were answered, with one of two addresses refusing")
        assert all(answered) or kind == "nginx"


def test_the_last_addresses_are_used_while_the_name_server_is_silent(tmp_path: Path) -> None:
    """They stay valid for longer than HAProxy's own default, 30 seconds."""
    authority = Authority(tmp_path)
    with SecureStage(authority.server(NAME)) as api, Pool.start("haproxy", tmp_path, authority, api.port) as pool:
        wait_until(lambda: is_answering(pool))
        pool.names.answers = False
        time.sleep(75)
        assert all(is_answering(pool) for _ in range(4))


def test_silence_within_the_timeouts_is_tolerated(pooled: Pooled) -> None:
    def silent_then_streaming(conversation: Conversation) -> None:
        time.sleep(SILENCE)
        conversation.send(EVENT_STREAM + chunk(b"data: 1\n\n"))
        time.sleep(SILENCE)
        conversation.send(chunk(b"data: 2\n\n") + b"0\r\n\r\n")

    def stream() -> list[str]:
        with pooled.client(timeout=2 * SILENCE) as client, client.stream("GET", "/v1/x") as response:
            return [line for line in response.iter_lines() if line]

    def upload() -> bytes:
        with pooled.raw() as client:
            client.sock.settimeout(2 * SILENCE)
            client.send(pooled.head("POST /v1/files HTTP/1.1", "Transfer-Encoding: chunked") + chunk(b"a"))
            time.sleep(SILENCE)
            client.send(chunk(b"b") + b"0\r\n\r\n")
            return client.read_answer()[1]

    def pause() -> list[int]:
        with pooled.client() as client:
            first = client.get("/v1/now").status_code
            time.sleep(SILENCE)
            return [first, client.get("/v1/now").status_code]

    def act(conversation: Conversation) -> None:
        if b"/v1/files" in conversation.received:
            while b"0\r\n\r\n" not in conversation.received:
                conversation.read_more()
            answer(conversation)
        elif b"/v1/now" in conversation.received:
            answer(conversation)
        else:
            silent_then_streaming(conversation)

    pooled.api.act = act
    with ThreadPoolExecutor() as threads:
        streamed, uploaded, paused = threads.submit(stream), threads.submit(upload), threads.submit(pause)
        assert paused.result() == [200, 200]
        assert uploaded.result() == b"{}"
        assert streamed.result() == ["data: 1", "data: 2"]
