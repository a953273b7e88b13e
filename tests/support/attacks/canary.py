"""A canary: a key and a token, searched for in every place where a secret could appear.

`run_in_mitmweb`, `run_in_mitmdump` and `run_in_launcher` are the runs. `Traffic` sends requests of every kind,
`Operator` does in mitmweb what operators do, and a `Net` holds all that was shown or written, piece by piece. Each
request also carries a harmless mark in a header: a place without the mark was not searched.
"""

import asyncio
import base64
import contextlib
import gzip
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
from psycopg import sql
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from support.clients.http2 import Http2Client
from support.clients.page_crawler import Crawler
from support.clients.web_client import Flow, Watcher, WebClient
from support.gateway.gateway import ENCRYPTION_KEY, Gateway, bearer
from support.gateway.processes import DEADLINE, Process, free_port, python, running, tool
from support.network.certificates import Authority
from support.upstreams.upstreams import Conversation, DemoUpstream, RawUpstream, answer_all

KEY = "sk-canary-5f0a7c31e9d84b62a1c7f3d0"
QUOTED = f"{KEY[:8]}{'*' * 20}{KEY[-8:]}"
"""The way in which an upstream quotes a key that it rejects."""
WORD = "upstreamsaysso"
"""A word of that upstream's, for the log alone."""
MARK = "visible-mark-81c2"
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "canary"}]}
STREAMED = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
SLOWLY = {"X-Demo-Words": "25", "X-Demo-Chunk-Delay": "0.02"}
NO_CHANGES: Mapping[str, object] = {}
NO_SETTINGS: Mapping[str, str] = {}
SETTINGS = {"CONNECT_TIMEOUT": "1", "FIRST_BYTE_TIMEOUT": "1", "ENCRYPTION_KEY": ENCRYPTION_KEY}


class Front(RawUpstream):
    """The upstream: records all that comes and passes it on to the demo upstream; or fails as it is set to."""

    def __init__(self, behind: int, context: ssl.SSLContext | None = None) -> None:
        self._behind = behind
        self._context = context
        super().__init__(self.pass_on)
        if context is not None:
            self.url = f"https://localhost:{self.port}"

    def pass_on(self, conversation: Conversation) -> None:
        asyncio.run(self._pass_on(conversation))

    async def _streams(self, conversation: Conversation) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        loop, sock = asyncio.get_running_loop(), conversation.sock
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, ssl=self._context)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _pass_on(self, conversation: Conversation) -> None:
        """Copy both ways in one thread: Python's TLS sockets lose connections that two threads use at once."""
        reader, writer = await self._streams(conversation)
        behind, to_behind = await asyncio.open_connection("127.0.0.1", self._behind)
        await asyncio.gather(_copy(reader, to_behind, conversation), _copy(behind, writer))

    async def _answer_once(self, conversation: Conversation, response: bytes) -> None:
        reader, writer = await self._streams(conversation)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            conversation.received += await reader.readuntil(b"\r\n\r\n")
            writer.write(response)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    def answering(self, response: bytes) -> contextlib.AbstractContextManager[None]:
        """Answer the first request on every new connection with this, and hang up, until the block ends."""
        return self.failing(lambda conversation: asyncio.run(self._answer_once(conversation, response)))

    @contextlib.contextmanager
    def failing(self, how: Callable[[Conversation], None]) -> Iterator[None]:
        """Fail in this way on every new connection, until the block ends."""
        self.answer = how
        try:
            yield
        finally:
            self.answer = self.pass_on


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, record: Conversation | None = None) -> None:
    """Copy until either side ends, and end the other one."""
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            if record is not None:
                record.received += data
            sink.write(data)
            await sink.drain()
    sink.close()


class Net:
    """All that was shown or written, by place."""

    def __init__(self) -> None:
        self._pieces: dict[str, list[bytes]] = {}

    def add(self, where: str, *pieces: str | bytes) -> None:
        self._pieces.setdefault(where, []).extend(
            piece.encode(errors="surrogateescape") if isinstance(piece, str) else piece for piece in pieces
        )

    def add_files(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.add(f"file {path.name}", path.read_bytes())

    def add_database(self, url: str) -> None:
        """Add all rows of a PostgreSQL database, each table as `COPY` writes it."""
        with psycopg.connect(url) as connection:
            for (table,) in connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            ).fetchall():
                with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table))) as rows:
                    self.add("database", b"".join(map(bytes, rows)))

    def holding(self, *forms: bytes) -> set[str]:
        """Return the places that hold any of these forms."""
        return {
            where for where, pieces in self._pieces.items() if any(form in piece for piece in pieces for form in forms)
        }

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return the number of pieces and of bytes in each place."""
        return {where: (len(pieces), sum(map(len, pieces))) for where, pieces in sorted(self._pieces.items())}


def forms(secret: str) -> list[bytes]:
    """Return the forms in which a secret is searched for.

    Itself, either half, hexadecimal, base64 at every offset, percent-encoded, and the pieces of a key that are quoted.
    """
    raw, half = secret.encode(), len(secret) // 2
    in_base64 = (base64.b64encode(bytes(offset) + raw)[4:-4] for offset in range(3))
    halves = [raw[:half] if len(raw[:half]) > 12 else raw, raw[half:]]
    quoted = QUOTED.encode().split(b"*" * 20) if secret == KEY else []
    return [raw, *halves, raw.hex().encode(), raw.replace(b"-", b"%2D"), *in_base64, *quoted]


class Traffic:
    """A client that sends all that a client may send, with the canary token."""

    def __init__(self, gateway: Gateway, token: dict[str, Any], net: Net, front: Front) -> None:
        self._gateway = gateway
        self._token = token
        self._net = net
        self._front = front
        self.admin_tokens: list[str] = []
        self.headers = {**bearer(token), "X-Mark": MARK}

    def send_all(self) -> None:
        with httpx.Client(base_url=self._gateway.url, headers=self.headers, timeout=DEADLINE) as client:
            self._bodies(client)
            self._refusals(client)
            self._other_places(client)
        self._hang_up()
        self._websocket()
        self._malformed()
        self._over_http2()
        self._failures()
        self._rejections()
        self._manage()
        self._administer()

    def _manage(self) -> None:
        """Name the token to the management API, by its value and in the wrong place."""
        path = f"/manage/tokens/{self._token['token']}"
        self._gateway.manage("GET", path).raise_for_status()
        for refused in (
            self._gateway.manage("PATCH", path, {"max_requests": "wrong"}),
            self._gateway.manage("GET", f"/manage/projects/{self._token['token']}"),
            self._gateway.manage("GET", "/manage/projects", token=self._token["token"]),
        ):
            assert refused.is_error
            self._note(refused)
        self._net.add("metrics", self._gateway.manage("GET", "/metrics").raise_for_status().text)

    def _administer(self) -> None:
        """Change all that has a secret; read the audit, as an administrator does and as a viewer, and by commands."""
        manage, made = self._gateway.manage, []
        for role in ("admin", "viewer"):
            body = {"name": f"{role}-{time.monotonic_ns()}", "role": role}
            made.append(manage("POST", "/manage/admins", body).raise_for_status().json())
        self.admin_tokens += [each["token"] for each in made]
        token_id, project_id = self._token["id"], self._token["project_id"]
        admin, viewer = self.admin_tokens[-2:]
        manage("PATCH", f"/manage/projects/{project_id}", {"api_key": KEY}, token=admin).raise_for_status()
        manage("PATCH", f"/manage/projects/{project_id}", {"name": MARK}).raise_for_status()
        manage("PATCH", f"/manage/tokens/{self._token['token']}", {"name": MARK}, token=admin).raise_for_status()
        for path in ("/manage/audit", "/manage/audit?format=jsonl", "/manage/admins"):
            self._net.add("audit", manage("GET", path, token=admin).raise_for_status().text)
        for path in ("/manage/tokens", f"/manage/tokens/{token_id}", "/manage/projects", f"/manage/admins/{admin}"):
            self._net.add("viewer", manage("GET", path, token=viewer).text)
        for path in ("/manage/audit", f"/manage/audit?objectId={self._token['token']}", "/metrics"):
            self._net.add("viewer", manage("GET", path, token=viewer).text)
        self._read_pages("pages", admin)
        self._read_pages("pages of a viewer", viewer)
        manage("DELETE", f"/manage/admins/{made[0]['id']}").raise_for_status()
        for refused in (
            manage("POST", "/manage/admins", {"name": admin, "role": "viewer"}, token=viewer),
            manage("POST", "/manage/admins", {"name": admin, "role": "viewer"}),
            manage("GET", "/metrics", token=admin),
            manage("GET", f"/manage/audit?objectId={admin}"),
            manage("GET", f"/manage/audit?action={admin}"),
        ):
            assert refused.is_error, refused.url
            self._note(refused)
        for command in (["audit"], ["audit", "--json"], ["admin", "list"], ["admin", "list", "--json"]):
            self._net.add("commands of the store", _output(self._gateway, command))

    def _read_pages(self, where: str, admin_token: str) -> None:
        """Log in as an administrator, and open every page that links lead to; the session's id is a secret too."""
        with Crawler.log_in(self._gateway.manage_url, admin_token) as crawler:
            self._net.add(where, crawler.client.post("/login", data={"token": self._token["token"]}).text)
            for page in crawler.open_all():
                self._net.add(where, page.address, str(page.response.headers), page.response.content)
            self.admin_tokens += crawler.client.cookies.values()

    def _note(self, response: httpx.Response) -> None:
        self._net.add("answers", str(response.headers), response.content)

    def _bodies(self, client: httpx.Client) -> None:
        for body in (CHAT, STREAMED):
            self._note(client.post("/v1/chat/completions", json=body, headers=SLOWLY))
        for response in (
            client.get("/v1/models"),
            client.head("/v1/models"),
            client.post("/v1/embeddings", json={"model": "m", "input": ["one"]}),
            client.post("/v1/embeddings", content=_pieces(b'{"model": "m", ', b'"input": "two"}')),
            client.post("/v1/files", files={"file": ("f", bytes(2_000_000))}, data={"purpose": "assistants"}),
            client.post("/v1/files", content=_pieces(*[bytes(300_000)] * 5)),
        ):
            self._note(response)

    def _refusals(self, client: httpx.Client) -> None:
        for response in (
            client.get("/v1/models/unknown"),
            client.get("/v1/../x"),
            client.get("/nowhere"),
            client.request("TRACE", "/v1/models"),
            client.get("/v1/models", headers={"Authorization": f"Basic {self._token['token']}"}),
            client.get("/v1/models", headers={"Authorization": f"Bearer {self._token['token']}x"}),
            client.get("/v1/models", headers={"Cookie": self._token["token"]}),
            client.get("/v1/models", headers={"Proxy-Authorization": f"Bearer {self._token['token']}"}),
            client.post("/v1/files", content=bytes(2_000_000), headers={"Authorization": "Bearer x"}),
            client.post("/v1/files", content=b"x", headers={"Content-Encoding": "gzip"}),
        ):
            self._note(response)

    def _other_places(self, client: httpx.Client) -> None:
        """Send the token in every header and query that clients of one provider or another use."""
        token = self._token["token"]
        other = "00000000-0000-4000-8000-000000000000"
        marked = {"X-Mark": MARK}
        for headers in (
            *({name: token} for name in ("x-api-key", "Api-Key", "X-Goog-Api-Key")),
            {"x-api-key": f"sk-{token}", "api-key": "unused"},
            {"Authorization": f"Bearer sk-{token}", "x-api-key": token, "xi-api-key": f"sk-{token}"},
            {"Authorization": f"Bearer {token}", "xi-api-key": token},
            {"Authorization": f"Bearer {token}", "x-api-key": other},
            {"Authorization": "Bearer x", "x-goog-api-key": token},
            {"xi-api-key": token},
        ):
            self._note(httpx.get(f"{self._gateway.url}/v1/models", headers={**marked, **headers}, timeout=DEADLINE))
        for target in (
            *(f"/v1/models?key={token}", f"/v1/models?x=1&access_token=sk-{token}&y=%20", f"/v1/models?{token}"),
            *(f"/v1/models?key={token.replace('-', '%2D')}", f"/health?key={token}", f"/nowhere?key={token}"),
        ):
            self._note(client.get(target))

    def _hang_up(self) -> None:
        url = f"{self._gateway.url}/v1/chat/completions"
        with httpx.stream("POST", url, json=STREAMED, headers={**self.headers, **SLOWLY}) as response:
            next(response.iter_bytes())

    def _websocket(self) -> None:
        url = f"ws://127.0.0.1:{self._gateway.port}/v1/realtime?model=gpt-realtime"
        protocols = ["realtime", f"openai-insecure-api-key.{self._token['token']}"]
        for query, options in (
            ("", {"additional_headers": self.headers}),
            ("", {"subprotocols": protocols}),
            (f"&key={self._token['token']}", {"additional_headers": self.headers}),
            ("", {"additional_headers": {"x-api-key": self._token["token"], "X-Mark": MARK}}),
            ("", {"additional_headers": {"Api-Key": f"sk-{self._token['token']}", "xi-api-key": self._token["token"]}}),
        ):
            with connect(url + query, **options) as websocket:
                self._net.add("answers", str(websocket.response))
                websocket.send('{"type": "response.create"}')
                while "response.done" not in (message := str(websocket.recv(DEADLINE))):
                    self._net.add("answers", message)

    def _malformed(self) -> None:
        start = f"POST /v1/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._token['token']}\r\n"
        for broken in (
            f"GET /v1/x HTTP/1.1\r\nHost: x\r\nAuthorization Bearer {self._token['token']}\r\n\r\n",
            start,
            f"{start}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            f"{start}Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
            f"{start}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Trailer: {self._token['token']}\r\n\r\n",
            f"{start}X: {'x' * 70_000}\r\n\r\n",
            start.replace("HTTP/1.1", "HTTP/3.0") + "\r\n",
            f"\x16\x03\x01\x00\x7f\x01\x00\x00\x7b\x03\x03{self._token['token'] * 4}",  # as TLS
        ):
            with socket.create_connection(("127.0.0.1", self._gateway.port), timeout=DEADLINE) as sock:
                sock.sendall(broken.encode())
                sock.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionError):
                    while data := sock.recv(65536):
                        self._net.add("answers", data)

    def _over_http2(self) -> None:
        async def three() -> list[int]:
            async with Http2Client.connect(self._gateway.port) as client:
                token = self._token["token"]
                streams = [client.get(f"/v1/models?h2={number}&key={token}", token) for number in range(3)]
                client.reset(streams.pop())
                start = [(":method", "GET"), (":scheme", "https"), (":authority", "proxy"), (":path", "/v1/models")]
                streams.append(client.request([*start, ("x-api-key", token), ("xi-api-key", token)]))
                return [await client.status(stream) for stream in streams]

        assert asyncio.run(three()) == [200, 200, 200]

    def _failures(self) -> None:
        """Have the upstream fail before its answer, in the middle of it, and in the handshake."""
        for response in (
            b"",
            b"nonsense\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\ncut",
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\ndata: cut\n\n",
            None,
        ):
            with self._front.failing(_send(response)), contextlib.suppress(httpx.RemoteProtocolError):
                self._note(httpx.get(f"{self._gateway.url}/v1/models", headers=self.headers, timeout=DEADLINE))

    def _rejections(self) -> None:
        """Have the upstream reject the key, and quote it in every place that an answer has."""
        url = f"{self._gateway.url}/v1/chat/completions"
        first, *others = _quoting()
        for response in others:
            with self._front.answering(response):
                self._note(httpx.get(url, headers=self.headers, timeout=DEADLINE))
        with self._front.answering(first):
            self._note(httpx.head(url, headers=self.headers, timeout=DEADLINE))
            headers = {**self.headers, "OpenAI-Project": "proj_1"}
            self._note(httpx.post(url, json=STREAMED, headers=headers, timeout=DEADLINE))
            self._rejected_socket()
            asyncio.run(self._rejected_over_http2())

    def _rejected_socket(self) -> None:
        try:
            connect(f"ws://127.0.0.1:{self._gateway.port}/v1/realtime", additional_headers=self.headers)
        except InvalidStatus as refused:
            response = refused.response
            self._net.add("answers", str(response.headers), response.reason_phrase, response.body or b"")

    async def _rejected_over_http2(self) -> None:
        async with Http2Client.connect(self._gateway.port) as client:
            stream = client.get("/v1/models", self._token["token"])
            self._net.add("answers", str(await client.answer(stream)), client.body(stream))


def _quoting() -> Iterator[bytes]:
    """Yield 401s of an upstream that quote the key, or what may be taken for its error's code, in their own ways."""
    message = f"Incorrect API key provided: {QUOTED}. {WORD} '{KEY}', {KEY[-8:]}. See https://example.com/{KEY[:8]}"
    head = (
        f"HTTP/1.1 401 {QUOTED}\r\nContent-Type: application/json\r\nX-Request-ID: req_{KEY[-8:]}\r\n"
        f'WWW-Authenticate: Bearer error="{QUOTED}"\r\nSet-Cookie: key={KEY}\r\nX-Key: {QUOTED}\r\n'
    ).encode()

    def body(code: str | None) -> bytes:
        return json.dumps({"error": {"message": message, "type": QUOTED, "param": KEY, "code": code}}).encode()

    def of_length(content: bytes, length: int) -> bytes:
        return b"Content-Length: %d\r\n\r\n%s" % (length, content)

    for content in map(body, ("invalid_api_key", KEY[-8:], KEY, None)):
        yield head + of_length(content, len(content))
    content = body("invalid_api_key")
    packed = gzip.compress(content)
    yield head + b"Content-Encoding: gzip\r\n" + of_length(packed, len(packed))
    yield head + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
    yield head + b"\r\n" + content
    yield head + of_length(content, 9999)
    yield head + of_length(content.ljust(200_000), 200_000)
    yield head.replace(b"application/json", b"text/event-stream") + b"\r\ndata: " + content + b"\n\n"
    yield head.replace(b"application/json", b"text/plain") + b"\r\n" + message.encode()


def _output(gateway: Gateway, command: Sequence[str]) -> bytes:
    """Return all that a command of `llm-proxy` prints."""
    code = "from manage_api.cli.commands import main; main()"
    done = subprocess.run(python("-c", code, *command), env=gateway.env, capture_output=True, check=True)
    return done.stdout + done.stderr


def _pieces(*pieces: bytes) -> Iterable[bytes]:
    yield from pieces


def _send(data: bytes | None) -> Callable[[Conversation], None]:
    """Answer a request (or a handshake) with this, and hang up; with None, send nothing."""

    def answer(conversation: Conversation) -> None:
        conversation.read_more()
        if data is None:
            conversation.wait_until_closed()
        else:
            conversation.send(data)

    return answer


class Operator:
    """An operator in mitmweb who replays, edits, intercepts and exports."""

    def __init__(self, gateway: Gateway, web: WebClient, token: dict[str, Any], net: Net) -> None:
        self._gateway = gateway
        self._web = web
        self._headers = {**bearer(token), "X-Mark": MARK}
        self._net = net

    def replay(self, path: str, changes: Mapping[str, object] = NO_CHANGES) -> Flow:
        """Send a request, replay its flow with these changes, and return its outcome."""
        httpx.get(f"{self._gateway.url}{path}", headers=self._headers).raise_for_status()
        flow = self._web.flow(path, lambda flow: flow.get("response"))
        if changes:
            self._web.put(f"/flows/{flow['id']}", {"request": dict(changes)}).raise_for_status()
        self._web.post(f"/flows/{flow['id']}/replay").raise_for_status()
        deadline = time.monotonic() + DEADLINE
        while True:
            (replayed,) = [found for found in self._web.flows() if found["id"] == flow["id"]]
            if replayed.get("is_replay") and (replayed.get("response") or replayed.get("error")):
                return replayed
            assert time.monotonic() < deadline, replayed

    def intercept(self, path: str, changes: Mapping[str, object]) -> httpx.Response:
        """Intercept a request on its way, edit it, let it go, and return its answer."""
        self._web.put("/options", {"intercept": f"~q & {_filter(path)}"}).raise_for_status()
        answers: list[httpx.Response] = []

        def ask() -> None:
            url = f"{self._gateway.url}{path}"
            answers.append(httpx.get(url, headers=self._headers, timeout=DEADLINE))

        asking = threading.Thread(target=ask)
        asking.start()
        flow = self._web.flow(path, lambda flow: flow["intercepted"])
        self._web.put(f"/flows/{flow['id']}", {"request": dict(changes)}).raise_for_status()
        self._web.post(f"/flows/{flow['id']}/resume").raise_for_status()
        asking.join()
        self._web.put("/options", {"intercept": ""}).raise_for_status()
        self._net.add("answers", str(answers[0].headers), answers[0].content)
        return answers[0]

    def export(self, path: str, folder: Path) -> None:
        """Export a flow in every format, as text and as a file; save all flows as mitmproxy's file and as HAR."""
        httpx.get(f"{self._gateway.url}{path}", headers=self._headers).raise_for_status()
        flow = self._web.flow(path, lambda flow: flow.get("response"))
        for name in ("curl", "httpie", "raw", "raw_request", "raw_response"):
            self._net.add(f"export {name}", self._web.command("export", name, _filter(path)))
            self._web.command("export.file", name, _filter(path), str(folder / f"exported.{name}"))
        self._net.add("flows/dump", self._web.get("/flows/dump").content)
        self._web.command("save.har", "@all", str(folder / "saved.har"))
        self._net.add("duplicate", self._web.post(f"/flows/{flow['id']}/duplicate").text)
        self._net.add("commands", self._web.get("/commands").text)


def _filter(path: str) -> str:
    """Return mitmproxy's filter for the flows of a path that ends in a query."""
    return f"~u {path.partition('?')[2]}"


class Run(NamedTuple):
    """The outcome of a run: the net, the bytes that two upstreams got, and the statuses of the operator's acts."""

    net: Net
    token: str
    received: bytes
    elsewhere: bytes
    outcomes: dict[str, int]
    """The statuses of the operator's acts."""
    admin_tokens: list[str]


def run_in_mitmweb(folder: Path, demo: DemoUpstream, settings: Mapping[str, str] = NO_SETTINGS) -> Run:
    """Send all traffic through mitmweb, where an operator works and is watched."""
    net, outcomes = Net(), {}
    with (
        Front(demo.port) as front,
        RawUpstream(answer_all()) as elsewhere,
        Gateway.start(folder, front.url, way="mitmweb", proxies=1, **{**SETTINGS, **settings}) as gateway,
        WebClient(gateway.proxies[0].web_url) as web,
    ):
        token = gateway.make_token(gateway.make_project(api_key=KEY)["id"])
        with Watcher(gateway.proxies[0].web_url) as watcher:
            traffic = Traffic(gateway, token, net, front)
            traffic.send_all()
            operator, led_away = Operator(gateway, web, token, net), {"host": "127.0.0.1", "port": elsewhere.port}
            before = gateway.token(token["id"])["request_count"]
            outcomes["replayed"] = status_of(operator.replay("/v1/models?x=replayed"))
            outcomes["counted"] = gateway.token(token["id"])["request_count"] - before
            outcomes["replayed elsewhere"] = status_of(operator.replay("/v1/models?x=elsewhere", led_away))
            edited = operator.intercept("/v1/models?x=edited", {"path": "/v1/models?x=again"})
            outcomes["edited"] = edited.status_code
            outcomes["led away"] = operator.intercept("/v1/models?x=led-away", led_away).status_code
            operator.export("/v1/models?x=exported", folder)
            outcomes["wire in the log"] = web.put("/options", {"proxy_debug": True}).status_code
        net.add("polls", *watcher.polls)
        net.add("updates", *watcher.updates)
        net.add_files(folder)
    net.add_files(folder)
    return Run(net, token["token"], front.received(), elsewhere.received(), outcomes, traffic.admin_tokens)


def run_in_launcher(folder: Path, demo: DemoUpstream, settings: Mapping[str, str] = NO_SETTINGS) -> Run:
    """Send all traffic through the proxy as `./run.sh` starts it, with all that it can log."""
    net = Net()
    with (
        Front(demo.port) as front,
        Gateway.start(folder, front.url, way="launcher", proxies=1, **{**SETTINGS, **settings}) as gateway,
    ):
        token = gateway.make_token(gateway.make_project(api_key=KEY)["id"])
        traffic = Traffic(gateway, token, net, front)
        traffic.send_all()
    net.add_files(folder)
    return Run(net, token["token"], front.received(), b"", {}, traffic.admin_tokens)


def status_of(flow: Flow) -> int:
    """Return the status of a flow's response; 0 without one."""
    return int(flow["response"]["status_code"]) if flow.get("response") else 0


_RAISING = """
class Raising:
    def __getattr__(self, name):
        if name not in HOOKS:
            raise AttributeError(name)
        def hook(flow):
            if "x-raise" in flow.request.headers:
                raise RuntimeError(flow.request.headers, flow.get_state())
        return hook


HOOKS = {"requestheaders", "request", "responseheaders", "response", "error", "websocket_message", "websocket_end"}
addons = [Raising()]
"""


def run_in_mitmdump(folder: Path, demo: DemoUpstream, settings: Mapping[str, str] = NO_SETTINGS) -> Run:
    """Send all traffic through mitmdump to a TLS upstream, with all that it can print and save.

    Repeat that with another addon that raises in each hook.
    """
    net, authority, port = Net(), Authority(folder), free_port()
    (folder / "raising.py").write_text(_RAISING)
    with Front(demo.port, authority.server("localhost")) as front:
        listen = f"127.0.0.1:{port}"
        gateway = Gateway(folder, front.url, PROXY_LISTEN=listen, **{**SETTINGS, **settings})
        command = [
            *(tool("mitmdump"), "-s", "addon/proxy.py", "-s", str(folder / "raising.py"), "-v"),
            *("--mode", f"reverse:{front.url}@{listen}", "-w", str(folder / "flows")),
            *("--set", f"hardump={folder / 'dumped.har'}", "--set", "flow_detail=4", "--set", "proxy_debug=true"),
            *("--set", f"ssl_verify_upstream_trusted_ca={authority.file}"),
        ]
        try:
            gateway.start_management()
            token = gateway.make_token(gateway.make_project(api_key=KEY)["id"])
            with running(Process(command, env=gateway.env, log=folder / "mitmdump.log")) as process:
                process.wait_for_port(port)
                gateway.use(process, port)
                traffic = Traffic(gateway, token, net, front)
                traffic.send_all()
                traffic.headers["X-Raise"] = "1"
                traffic.send_all()
        finally:
            gateway.stop()
    net.add_files(folder)
    return Run(net, token["token"], front.received(), b"", {}, traffic.admin_tokens)
