"""nginx and HAProxy before two proxies, with the very files of docs/deploy: what comes through, and what a node's end costs.

`./run.sh soak -s tests/soak/test_load_balancers.py` prints what was measured.
"""

import asyncio
import contextlib
import hashlib
import json
import signal
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from support.balancers import KINDS, Balancer, Kind
from support.gateway import Gateway, bearer
from support.processes import DEADLINE, Process, python, wait_until
from support.raw_client import RawClient
from support.upstreams import OK, Conversation, DemoUpstream, RawUpstream

EVENTS = 20
MAX_DELAY = 0.05
EVENT_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
BLOCK = bytes(range(256)) * 4096  # 1 MiB
BLOCKS = 20
SILENCE = 65
"""Seconds: more than the 60 which are the default of most timeouts of either balancer."""

type Act = Callable[[Conversation], None]
"""What the upstream does once it has read the head of a request; the connection is used again after that."""


def answer(conversation: Conversation) -> None:
    conversation.send(OK)


class Stage:
    """An upstream that acts each request in the way of the moment, over connections that stay."""

    def __init__(self) -> None:
        self.act: Act = answer
        self.heads: list[bytes] = []
        self.upstream = RawUpstream(self._serve)

    def _serve(self, conversation: Conversation) -> None:
        conversation.sock.settimeout(None)
        conversation.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            conversation.received = b""
            self.heads.append(conversation.read_head())
            self.act(conversation)


@dataclass
class Site:
    """A balancer, two proxies, a token, and the upstream's stage."""

    balancer: Balancer
    gateway: Gateway
    stage: Stage
    token: dict[str, Any]

    def client(self, *, http2: bool = False, timeout: float = DEADLINE) -> httpx.Client:
        return httpx.Client(
            base_url=self.balancer.url,
            headers=bearer(self.token),
            verify=self.balancer.tls,
            http2=http2,
            timeout=timeout,
        )

    def head(self, line: str, *headers: str) -> bytes:
        lines = [line, "Host: localhost", f"Authorization: Bearer {self.token['token']}", *headers]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    def ask(self, target: str, *headers: str) -> tuple[bytes, bytes]:
        """Send a GET with this very target over a connection of its own, and return its answer."""
        with self.balancer.client() as client:
            client.send(self.head(f"GET {target} HTTP/1.1", *headers))
            return client.read_answer()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    stage = Stage()
    with stage.upstream:
        yield stage


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, stage: Stage) -> Iterator[Gateway]:
    with Gateway.start(tmp_path_factory.mktemp("gateway"), stage.upstream.url, proxies=2) as gateway:
        yield gateway


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, tmp_path: Path, gateway: Gateway, stage: Stage) -> Iterator[Site]:
    stage.act = answer
    nodes = [proxy.port for proxy in gateway.proxies]
    with Balancer.start(request.param, tmp_path, nodes, gateway.manage_port) as balancer:
        stage.heads.clear()
        yield Site(balancer, gateway, stage, gateway.make_token())


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_requests_are_spread_and_connections_to_the_api_are_kept(site: Site) -> None:
    opened = len(site.stage.upstream.conversations)
    target = f"/v1/spread/{site.balancer.kind}"
    with site.client() as client:
        for _ in range(40):
            client.get(target).raise_for_status()
    counts = [proxy.process.output().count(target) for proxy in site.gateway.proxies]
    print(f"{site.balancer.kind}: {counts} of 40 requests to each node")
    assert min(counts) >= 15
    assert len(site.stage.upstream.conversations) - opened <= 4


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_events_arrive_one_by_one(site: Site, http2: bool) -> None:
    def stream_timestamps(conversation: Conversation) -> None:
        conversation.send(EVENT_STREAM)
        for _ in range(EVENTS):
            conversation.send(chunk(b"data: %d\n\n" % time.monotonic_ns()))
            time.sleep(0.01)  # the pace of this upstream
        conversation.send(b"0\r\n\r\n")

    def delays(client: httpx.Client) -> list[float]:
        with client.stream("POST", "/v1/stream", content=b"{}") as response:
            assert response.headers["content-type"] == "text/event-stream"
            events = (line.removeprefix("data: ") for line in response.iter_lines() if line)
            return [(time.monotonic_ns() - int(event)) / 1e9 for event in events]

    site.stage.act = stream_timestamps
    with site.client(http2=http2) as client:
        streams = [delays(client) for _ in range(5)]
    medians = [statistics.median(event) for event in zip(*streams, strict=True)]
    print(f"{site.balancer.kind}: an event takes {max(medians) * 1000:.1f} ms at most (medians)")
    assert len(medians) == EVENTS
    assert max(medians) < MAX_DELAY


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_a_client_that_hangs_up_ends_its_request_upstream(site: Site, http2: bool) -> None:
    closed = threading.Event()

    def wait(conversation: Conversation) -> None:
        with contextlib.suppress(ConnectionError):
            conversation.wait_until_closed()
        closed.set()

    def begin(conversation: Conversation) -> None:
        conversation.send(EVENT_STREAM + chunk(b"data: 1\n\n"))
        wait(conversation)

    with site.client(http2=http2, timeout=0.5) as client:
        site.stage.act = wait
        with pytest.raises(httpx.ReadTimeout):
            client.get("/v1/waits")
    assert closed.wait(5)
    closed.clear()
    with site.client(http2=http2) as client:
        site.stage.act = begin
        with client.stream("GET", "/v1/streams") as response:
            next(response.iter_lines())
        client.close()
        assert closed.wait(5)


def test_an_upload_is_passed_on_while_it_is_sent_and_not_kept(site: Site) -> None:
    whole = hashlib.sha256()
    begun = threading.Event()

    def take(conversation: Conversation) -> None:
        _, _, body = conversation.received.partition(b"\r\n\r\n")
        left = len(BLOCK) * BLOCKS
        while True:
            whole.update(body)
            left -= len(body)
            begun.set()
            if not left:
                break
            body = conversation.sock.recv(min(left, 2**16))
        conversation.send(OK)

    site.stage.act = take
    with site.balancer.client() as client:
        client.send(site.head("POST /v1/files HTTP/1.1", f"Content-Length: {len(BLOCK) * BLOCKS}"))
        client.send(BLOCK)
        assert begun.wait(5)  # while the rest is not sent yet
        for _ in range(BLOCKS - 1):
            client.send(BLOCK)
        assert client.read_answer()[1] == b"{}"
    assert whole.hexdigest() == hashlib.sha256(BLOCK * BLOCKS).hexdigest()
    assert site.balancer.spooled() == []


def test_an_upload_that_is_refused_is_answered_before_its_end(site: Site) -> None:
    with site.balancer.client() as client:
        head = f"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BLOCK) * BLOCKS}\r\n\r\n"
        client.send(head.encode() + BLOCK)
        assert json.loads(client.read_answer()[1])["code"] == "invalid_token"


@pytest.mark.parametrize(
    "target",
    [
        "/v1/models/org%2Fname",
        "/v1/models/a%20b%3Fc?q=%2F%2e%2e&r=a//b/../c",
        "/v1/files/x/",
        "/v1/a;b=c,d/e:f@g!$&'()*+~",
        "/v1/%E2%82%AC?",
        "/v1/{braces}|<and>\"so\"^on`",
        "/v1/" + 30_000 * "x",
    ],
    ids=lambda target: target[:20],
)
def test_a_target_passes_as_it_is(site: Site, target: str) -> None:
    assert b" 200 " in site.ask(target)[0]
    assert site.stage.heads[-1].startswith(f"GET {target} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("target", ["/v1//x", "//v1/x", "/v1/a/../x", "/v1/./x", "/v1/%2e%2e/x", "/v1/a%2F%2Fb", "/v2/x"])
def test_what_the_proxy_refuses_is_not_made_good_on_the_way(site: Site, target: str) -> None:
    head, body = site.ask(target)
    assert json.loads(body)["code"] == ("not_found" if target == "/v2/x" else "invalid_request"), head
    assert site.stage.heads == []


def test_headers_pass_and_the_clients_address_does_not(site: Site) -> None:
    with site.balancer.client() as client:
        sent = ["X_Under.score: 1", "X-Request-ID: mine", "X-Forwarded-For: 192.0.2.1", "X-Large: " + 50_000 * "x"]
        client.send(site.head("GET /v1/models HTTP/1.1", *sent))
        assert b" 200 " in client.read_answer()[0]
    received = site.stage.heads[-1].decode().lower()
    for line in ("x_under.score: 1", "x-request-id: mine", "x-large: " + 50_000 * "x"):
        assert f"\r\n{line}\r\n" in received
    assert not [name for name in ("forwarded", "real-ip", "192.0.2.1", "127.0.0.1\r\n", "via:") if name in received]
    head, _ = site.ask("/v1/models", "X-Larger: " + 70_000 * "x")
    print(f"{site.balancer.kind}: 70,000 bytes of headers: {head.splitlines()[0].decode()}")
    assert head.split()[1] in {b"400", b"431"}


def test_headers_of_an_answer_pass_and_do_not_steer_the_balancer(site: Site) -> None:
    fields = {
        "server": "upstream/1",
        "date": "Thu, 01 Jan 1970 00:00:00 GMT",
        "x-request-id": "req_upstream",
        "set-cookie": "a=b",
        "location": "http://llm_proxy/v1/elsewhere",
        "x-ratelimit-remaining-tokens": "7",
        "x-accel-redirect": "/v1/models",
        "x-accel-buffering": "yes",
        "x-large": 20_000 * "x",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    site.stage.act = lambda conversation: conversation.send(
        f"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n{lines}\r\nbody".encode()
    )
    with site.client() as client:
        answered = client.get("/v1/models")
        refused = client.get("/v1/models", headers={"Authorization": "Bearer 11111111-1111-4111-8111-111111111111"})
    assert answered.text == "body"
    missing = {name for name, value in fields.items() if answered.headers.get(name) != value}
    print(f"{site.balancer.kind}: taken out of answers: {missing}")
    assert not missing - {"x-accel-redirect", "x-accel-buffering"}
    assert answered.headers["x-llm-proxy-request-id"] != "req_upstream"
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.headers["x-llm-proxy-request-id"] == refused.headers["x-request-id"]


def test_no_log_holds_a_token(site: Site) -> None:
    secret = site.token["token"]
    with site.client() as client:
        answered = client.get("/v1/models?key=secret-in-the-query")
        client.get("/v1/models", headers={"Authorization": "Basic c2VjcmV0"})
    manage = httpx.get(
        f"http://127.0.0.1:{site.balancer.manage_port}/manage/tokens/{secret}",
        headers={"Authorization": f"Bearer {site.gateway.env['MANAGEMENT_TOKEN']}"},
    )
    assert manage.json()["id"] == site.token["id"]
    site.balancer.wait_for_log(answered.headers["x-llm-proxy-request-id"])
    logs = "".join(path.read_text(errors="replace") for path in site.balancer.folder.glob("*.log"))
    assert '"GET /v1/models" 200' in logs
    for hidden in (secret, "secret-in-the-query", "c2VjcmV0", "/manage/tokens"):
        assert hidden not in logs


def test_a_realtime_session_passes(site: Site, tmp_path: Path) -> None:
    with (
        DemoUpstream.start(tmp_path) as demo,
        Gateway.start(tmp_path, demo.url) as gateway,
        Balancer.start(
            site.balancer.kind, subfolder(tmp_path, "realtime"), 2 * [gateway.port], gateway.manage_port
        ) as balancer,
    ):
        token = gateway.make_token()
        assert asyncio.run(converse(balancer, token["token"])) == ["session.created", "response.done"]
        assert gateway.token(token["id"])["request_count"] == 1


async def converse(balancer: Balancer, token: str) -> list[str]:
    """Have a response made in a session, and return the types of its first and last event."""
    base_url, websocket_url = f"{balancer.url}/v1", f"wss://localhost:{balancer.port}/v1"
    client = openai.AsyncOpenAI(base_url=base_url, websocket_base_url=websocket_url, api_key=token)
    realtime = client.realtime.connect(model="gpt-realtime", websocket_connection_options={"ssl": balancer.tls})
    events: list[str] = []
    async with client, realtime as connection:
        await connection.response.create()
        async for event in connection:
            events.append(event.type)
            if event.type == "response.done":
                break
    return [events[0], events[-1]]


def subfolder(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made


@dataclass
class Load:
    """Clients in threads that keep their connections, each request of which has a name; `seen` is upstream's count."""

    site: Site
    method: str
    clients: int = 8
    seen: Counter[str] = field(default_factory=Counter)
    answered: dict[str, str] = field(default_factory=dict)
    """What became of each request: its status, or what its client raised."""

    def __post_init__(self) -> None:
        self.site.stage.act = self._answer
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._use, args=(number,)) for number in range(self.clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, requests: int = 200) -> None:
        """Wait until so many more are answered."""
        until = len(self.answered) + requests
        wait_until(lambda: len(self.answered) >= until)

    @property
    def failed(self) -> Counter[str]:
        return Counter(outcome for outcome in self.answered.values() if outcome != "200")

    def twice(self) -> list[str]:
        """Return what came more than once."""
        return [name for name, count in self.seen.items() if count > 1]

    def _answer(self, conversation: Conversation) -> None:
        head, _ = conversation.read_message()
        name = next(line for line in head.decode().split("\r\n") if line.lower().startswith("x-name: "))[8:]
        with self._lock:
            self.seen[name] += 1
        time.sleep(0.01)  # so that there are some under way at each moment
        conversation.send(OK)

    def _use(self, client_number: int) -> None:
        body = b"{}" if self.method == "POST" else None
        number = 0
        with self.site.client() as client:
            while not self._stopped.is_set():
                number += 1
                name = f"{client_number}-{number}"
                try:
                    response = client.request(self.method, "/v1/models", headers={"X-Name": name}, content=body)
                    outcome = str(response.status_code)
                except httpx.TransportError as error:
                    outcome = type(error).__name__
                with self._lock:
                    self.answered[name] = outcome


def end_and_restart(site: Site, node: int, number: signal.Signals) -> None:
    """End a proxy with a signal, and start it again where it was."""
    proxy = site.gateway.proxies[node - 1]
    proxy.process.signal(number)
    proxy.process.wait()
    proxy.process = start_at(site.gateway, proxy.port)


def start_at(gateway: Gateway, port: int) -> Process:
    env = {**gateway.env, "PROXY_LISTEN": f"127.0.0.1:{port}"}
    process = Process(python("-m", "addon"), env=env, log=gateway.folder / f"restarted-{port}.log")
    process.wait_for_port(port)
    return process


ROUNDS = 6


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_node_that_is_taken_out_first_costs_nobody_anything(site: Site, method: str) -> None:
    with Load(site, method) as load:
        for round_number in range(ROUNDS):
            node = 1 + round_number % 2
            site.balancer.take_out(node)
            load.go_on()
            end_and_restart(site, node, signal.SIGTERM)
            site.balancer.put_back(node)
            load.go_on()
    print(f"{site.balancer.kind} {method}: {len(load.answered)} requests, taken out first: failed {dict(load.failed)}")
    assert load.twice() == []


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_node_that_is_just_stopped_costs_next_to_nothing(site: Site, method: str) -> None:
    with Load(site, method) as load:
        for round_number in range(ROUNDS):
            load.go_on()
            end_and_restart(site, 1 + round_number % 2, signal.SIGTERM)
            time.sleep(6)  # until it is in use again
    print(f"{site.balancer.kind} {method}: {len(load.answered)} requests, stopped: failed {dict(load.failed)}")
    assert load.twice() == []


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_node_that_is_killed_costs_what_it_had(site: Site, method: str) -> None:
    with Load(site, method) as load:
        for round_number in range(ROUNDS):
            load.go_on()
            end_and_restart(site, 1 + round_number % 2, signal.SIGKILL)
            time.sleep(6)  # until it is in use again
    twice = load.twice()
    print(f"{site.balancer.kind} {method}: {len(load.answered)} requests, killed: failed {dict(load.failed)}, twice {twice}")
