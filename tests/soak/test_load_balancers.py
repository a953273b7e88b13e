"""nginx and HAProxy before two proxies, with the very files of docs/deploy: data passes unchanged and at once.

`./run.sh soak -s tests/soak/test_load_balancers.py` prints the figures.
"""

import asyncio
import contextlib
import hashlib
import json
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from support.gateway.gateway import Gateway
from support.network.balanced_site import Site
from support.network.balancers import Balancer
from support.network.http_engine import KINDS, Kind
from support.upstreams.stage import Stage, answer
from support.upstreams.upstreams import OK, Conversation, DemoUpstream

pytestmark = pytest.mark.soak("addon/layers", "addon/serving", "docs/deploy")

EVENTS = 20
MAX_DELAY = 0.05
EVENT_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
BLOCK = bytes(range(256)) * 4096  # 1 MiB
BLOCKS = 20
SILENCE = 65
"""Seconds: more than 60, the default of most timeouts of either balancer."""


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


def test_an_upload_is_forwarded_while_it_is_sent(site: Site) -> None:
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
        '/v1/{braces}|<and>"so"^on`',
        "/v1/" + 30_000 * "x",
    ],
    ids=lambda target: target[:20],
)
def test_a_target_passes_as_it_was_written(site: Site, target: str) -> None:
    assert b" 200 " in site.ask(target)[0]
    assert site.stage.heads[-1].startswith(f"GET {target} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize(
    "target", ["/v1//x", "//v1/x", "/v1/a/../x", "/v1/./x", "/v1/%2e%2e/x", "/v1/a%2F%2Fb", "/v2/x"]
)
def test_a_balancer_does_not_repair_rejected_requests(site: Site, target: str) -> None:
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


def test_response_headers_pass_and_do_not_steer_the_balancer(site: Site) -> None:
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
    options: Any = {"ssl": balancer.tls}  # goes to websockets.connect, like other arguments that its type does not name
    realtime = client.realtime.connect(model="gpt-realtime", websocket_connection_options=options)
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


def test_no_timeout_is_shorter_than_those_of_the_nodes(site: Site) -> None:
    def silent_then_streaming(conversation: Conversation) -> None:
        time.sleep(SILENCE)
        conversation.send(EVENT_STREAM + chunk(b"data: 1\n\n"))
        time.sleep(SILENCE)
        conversation.send(chunk(b"data: 2\n\n") + b"0\r\n\r\n")

    def stream() -> list[str]:
        with site.client(timeout=2 * SILENCE) as client, client.stream("POST", "/v1/x", content=b"{}") as response:
            return [line for line in response.iter_lines() if line]

    def upload() -> bytes:
        with site.balancer.client() as client:
            client.sock.settimeout(2 * SILENCE)
            client.send(site.head("POST /v1/files HTTP/1.1", "Transfer-Encoding: chunked") + chunk(b"a"))
            time.sleep(SILENCE)
            client.send(chunk(b"b") + b"0\r\n\r\n")
            return client.read_answer()[1]

    def act(conversation: Conversation) -> None:
        if b"/v1/files" in conversation.received:
            while b"0\r\n\r\n" not in conversation.received:
                conversation.read_more()
            answer(conversation)
        else:
            conversation.read_body(2)
            silent_then_streaming(conversation)

    site.stage.act = act
    with ThreadPoolExecutor() as threads:
        streamed, uploaded = threads.submit(stream), threads.submit(upload)
        assert streamed.result() == ["data: 1", "data: 2"]
        assert uploaded.result() == b"{}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_silence_ends_at_the_timeouts_of_the_file(
    kind: Kind, tmp_path: Path, balanced: Gateway, stage: Stage
) -> None:
    def wait(conversation: Conversation) -> None:
        time.sleep(3)
        answer(conversation)

    stage.act = wait
    token = balanced.make_token()
    with (
        Balancer.start(
            kind, tmp_path, [balanced.port, balanced.port], balanced.manage_port, {" 660s": " 1s"}
        ) as balancer,
        Site(balancer, balanced, stage, token).client() as client,
    ):
        assert client.post("/v1/models", content=b"{}").status_code == 504
