"""Cuts on each path: the poll, and what is cut at moments that no client of a real gateway can choose."""

import asyncio
import itertools
import json
import logging
import queue
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest
from mitmproxy import http
from mitmproxy.addons.clientplayback import ClientPlayback
from mitmproxy.test import tflow
from support.gateway.inprocess import (
    CHUNKED,
    CutAt,
    HoldConnections,
    Proxy,
    assert_json_error,
    head_and_body,
    read_answer,
    run,
    running,
    until,
)
from support.gateway.processes import DEADLINE
from support.gateway.requests import make_request
from support.stores.stores import admission_of, foreign_lock, make_settings, make_token, opened, opening, rows
from support.upstreams.upstreams import Conversation, RawUpstream

from addon import cuts, exchange
from addon.cuts import Cuts
from addon.exchange import Exchange, Exchanges
from addon.patches import dispatch
from store.admission.admission import Admission
from store.admission.running import Running
from store.errors import GatewayError, TokenInactive
from store.management.tokens import TokenRecord, Tokens
from store.runtime.settings import Upstream as Origin
from store.store import Store

pytestmark = pytest.mark.usefixtures("_rows_at_once")

both_paths = pytest.mark.paths("on", "off")

JSON = "Content-Type: application/json\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
DOCUMENT = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{"id": 1'
END = b"0\r\n\r\n"
ONE, TWO, THREE = (b'data: {"id": %d}\n\n' % number for number in (1, 2, 3))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Upstream:
    """An upstream that sends what the test says after each request, and notes when the gateway hangs up."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.closed = threading.Event()
        self._pieces = queue.SimpleQueue[bytes]()

    def __call__(self, conversation: Conversation) -> None:
        conversation.read_head()
        self.asked.set()
        closed = threading.Event()
        sending = threading.Thread(target=self._send_all, args=(conversation, closed), daemon=True)
        sending.start()
        conversation.wait_until_closed()
        closed.set()
        sending.join()
        self.closed.set()

    def send(self, *pieces: bytes) -> None:
        """Send these, in one segment."""
        self._pieces.put(b"".join(pieces))

    def _send_all(self, conversation: Conversation, closed: threading.Event) -> None:
        while not closed.is_set():
            try:
                conversation.send(self._pieces.get(timeout=0.01))
            except queue.Empty:
                continue
            except OSError:
                return


class Scene:
    """A proxy before such an upstream, and a client's open connection."""

    def __init__(
        self, proxy: Proxy, upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.proxy = proxy
        self.upstream = upstream
        self.reader = reader
        self.writer = writer
        self._came = b""

    def ask(self, line: str = "GET /v1/x", *, headers: str = "", version: str = "1.1") -> None:
        request = self.proxy.request(line, headers=headers).replace("HTTP/1.1", f"HTTP/{version}", 1)
        self.writer.write(request.encode())

    async def exchange(self) -> Exchange:
        """Return the only exchange, once it has reached the upstream."""
        await until(self.upstream.asked.is_set)
        (flow_id,) = self.proxy.exchanges.all()
        found = self.proxy.exchanges.get(flow_id)
        assert found is not None
        return found

    async def stream(self, *pieces: bytes) -> Exchange:
        """Ask for a stream that has these pieces so far, and return its exchange once the client has them."""
        self.ask()
        found = await self.exchange()
        await self.begin(*pieces)
        return found

    async def begin(self, *pieces: bytes) -> None:
        """Send the beginning of a stream, and wait until the client has it."""
        self.upstream.send(HEAD, *map(chunk, pieces))
        await self._read(lambda stream: stream.body == b"".join(pieces))

    async def whole(self) -> bytes:
        """Read a stream up to its end, and return all of its body."""
        stream = await self._read(lambda stream: stream.is_whole)
        self._came = b""
        return stream.body

    async def _read(self, is_enough: Callable[["Stream"], bool]) -> "Stream":
        async with asyncio.timeout(DEADLINE):
            while not is_enough(stream := Stream.of(self._came)):
                piece = await self.reader.read(65536)
                assert piece, self._came
                self._came += piece
        return stream

    async def rest(self) -> bytes:
        """Read until the proxy closes the connection."""
        return await asyncio.wait_for(self.reader.read(), DEADLINE)

    async def ended(self) -> http.HTTPFlow:
        """Wait until the exchange is settled and the upstream is left."""
        flow = await self.proxy.end_of_flow()
        await until(self.upstream.closed.is_set)
        assert len(self.proxy.exchanges) == 0
        await until(lambda: all(row["settled_at"] for row in rows(self.proxy.store, "request")))
        return flow

    @property
    def row(self) -> Mapping[str, Any]:
        (found,) = rows(self.proxy.store, "request")
        return found


@asynccontextmanager
async def scene(
    folder: Path, addons: Iterable[object] = (), *, receive_buffer: int | None = None, **values: Any
) -> AsyncIterator[Scene]:
    upstream = Upstream()
    with RawUpstream(upstream) as server:
        async with (
            running(folder, server.url, addons=[*addons], **values) as proxy,
            proxy.connection(receive_buffer) as (reader, writer),
        ):
            yield Scene(proxy, upstream, reader, writer)


class Stream(NamedTuple):
    """A response in chunks, as far as it has come."""

    body: bytes
    is_whole: bool

    @classmethod
    def of(cls, answer: bytes) -> Self:
        body, rest = b"", answer.partition(b"\r\n\r\n")[2]
        while b"\r\n" in rest:
            size, _, rest = rest.partition(b"\r\n")
            if not int(size, 16):
                return cls(body, rest == b"\r\n")
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        return cls(body, is_whole=False)


def last_of(body: bytes) -> str:
    """Return the code of the error that ends a stream."""
    *_, last, nothing = body.split(b"\n\n")
    assert nothing == b""
    code: str = json.loads(last.removeprefix(b"data: "))["error"]["code"]
    return code


# Moments.


@both_paths
def test_a_stream_that_is_cut_between_events_ends_and_the_connection_serves_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as it:
            (await it.stream(ONE)).cut(TokenInactive())
            assert last_of(await it.whole()) == "token_inactive"
            flow = await it.ended()
            assert flow.error is not None
            assert flow.error.msg == "The token has been revoked."
            assert (it.row["status"], it.row["code"], it.row["streamed"]) == (200, "token_inactive", 1)
            it.ask("GET /health")
            assert head_and_body(await read_answer(it.reader))[0] == 200

    run(main())


@both_paths
def test_a_second_cut_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as it:
            found = await it.stream(ONE)
            found.cut(TokenInactive())
            found.cut(GatewayError())
            assert (await it.whole()).count(b'"error"') == 1
            await it.ended()
            found.cut(GatewayError())
            assert it.row["code"] == "token_inactive"

    run(main())


@both_paths
@pytest.mark.parametrize(
    ("before", "after", "is_end"),
    [
        ([ONE], [TWO + THREE], False),
        ([ONE], [TWO + THREE[:5]], False),
        ([ONE], [TWO, THREE], True),
        ([ONE + TWO[:5]], [TWO[5:] + THREE], False),
        ([ONE + TWO[:5]], [TWO[5:] + THREE], True),
        ([ONE + TWO[:5]], [TWO[5:]], True),
    ],
)
def test_a_piece_that_shows_that_nothing_is_left_ends_the_stream(
    tmp_path: Path, before: list[bytes], after: list[bytes], is_end: bool
) -> None:
    """The cut comes from within the piece, which may have the end of the response too."""

    async def main() -> None:
        async with scene(tmp_path) as it:
            found = await it.stream(*before)
            found.on_response = lambda: found.cut(TokenInactive())
            it.upstream.send(*map(chunk, after), END if is_end else b"")
            came = await it.whole()
            assert came.startswith(ONE + (TWO if before != [ONE] else b"") + b'data: {"error"')
            assert last_of(came) == "token_inactive"
            await until(lambda: not len(it.proxy.exchanges))
            it.ask("GET /health")
            assert head_and_body(await read_answer(it.reader))[0] == 200

    run(main())


@both_paths
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_stream_without_chunks_gets_the_last_event_and_the_connection_closes(tmp_path: Path, version: str) -> None:
    async def main() -> None:
        async with scene(tmp_path) as it:
            it.ask(version=version)
            found = await it.exchange()
            it.upstream.send(HEAD.replace(b"Transfer-Encoding: chunked\r\n", b""), ONE)
            await it.reader.readuntil(b"\r\n\r\n")
            assert await it.reader.readexactly(len(ONE)) == ONE
            found.cut(TokenInactive())
            assert last_of(await it.rest()) == "token_inactive"
            await it.ended()

    run(main())


@both_paths
def test_a_stream_is_broken_off_within_an_event_that_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "PATIENCE", 0.05)

    async def main() -> None:
        async with scene(tmp_path) as it:
            (await it.stream(ONE, TWO[:5])).cut(TokenInactive())
            assert await it.rest() == b""
            await it.ended()
            assert (it.row["status"], it.row["code"]) == (200, "token_inactive")

    run(main())


@both_paths
def test_a_client_that_does_not_read_holds_up_no_cut(tmp_path: Path) -> None:
    many = [chunk(ONE * 1000) for _ in range(2000)]  # 38 MB

    async def main() -> None:
        async with scene(tmp_path, receive_buffer=4096) as it:
            it.ask()
            found = await it.exchange()
            it.upstream.send(HEAD, *many)
            await until(lambda: found.tap is not None)
            await asyncio.sleep(0.2)  # until the buffers are full
            found.cut(TokenInactive())
            await asyncio.wait_for(it.ended(), 5)
            assert it.row["code"] == "token_inactive"
            it.writer.transport.abort()

    run(main())


@both_paths
def test_a_document_that_is_read_whole_is_answered_by_the_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as it:
            it.ask()
            found = await it.exchange()
            it.upstream.send(DOCUMENT)
            await until(lambda: found.answered_at)
            found.cut(TokenInactive())
            assert_json_error(await read_answer(it.reader), 401, "token_inactive")
            await it.ended()
            assert (it.row["status"], it.row["code"]) == (401, "token_inactive")

    run(main())


@both_paths
def test_a_list_of_models_that_is_filtered_is_answered_by_the_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as it:
            it.proxy.token = make_token(it.proxy.store, allowed_models=["a"])
            it.ask("GET /v1/models")
            found = await it.exchange()
            assert found.shown_models is not None
            it.upstream.send(DOCUMENT)
            await until(lambda: found.answered_at)
            found.cut(TokenInactive())
            assert_json_error(await read_answer(it.reader), 401, "token_inactive")
            await it.ended()

    run(main())


@both_paths
def test_a_rejection_that_is_read_is_answered_by_the_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as it:
            it.ask()
            found = await it.exchange()
            it.upstream.send(DOCUMENT.replace(b"200 OK", b"401 No"))
            await until(lambda: found.answered_at)
            found.cut(TokenInactive())
            assert_json_error(await read_answer(it.reader), 401, "token_inactive")
            await it.ended()
            assert it.row["code"] == "token_inactive"

    run(main())


@both_paths
def test_a_request_that_waits_for_a_connection_is_answered_and_never_sent(tmp_path: Path) -> None:
    async def main() -> None:
        hold = HoldConnections()
        async with scene(tmp_path, [hold]) as it:
            it.ask()
            await asyncio.wait_for(hold.held.wait(), DEADLINE)
            (flow_id,) = it.proxy.exchanges.all()
            found = it.proxy.exchanges.get(flow_id)
            assert found is not None
            found.cut(TokenInactive())
            async with asyncio.timeout(2):  # and not when the attempt to connect has ended
                assert_json_error(await read_answer(it.reader), 401, "token_inactive")
            await it.proxy.end_of_flow()
            hold.go_on.set()
            it.ask("GET /health")
            assert head_and_body(await read_answer(it.reader))[0] == 200
            assert not it.upstream.asked.is_set()
            await until(lambda: all(row["settled_at"] for row in rows(it.proxy.store, "request")))
            assert (it.row["status"], it.row["code"]) == (401, "token_inactive")

    run(main())


@both_paths
@pytest.mark.parametrize("kind", [HEAD + chunk(ONE) + END, DOCUMENT + b"            "], ids=["stream", "document"])
@pytest.mark.parametrize("hook", ["responseheaders", "response"])
def test_a_cut_just_before_a_hook_of_the_gateways_own(tmp_path: Path, hook: str, kind: bytes) -> None:
    async def main() -> None:
        async with scene(tmp_path) as it:
            addon = CutAt(hook)
            addon.exchanges = it.proxy.exchanges
            dispatch.add_first(it.proxy.master, addon)
            it.ask(headers="Connection: close\r\n")
            await it.exchange()
            it.upstream.send(kind)
            answer = await it.rest()
            if hook == "response" and kind.startswith(HEAD):
                assert Stream.of(answer).body == ONE  # it was whole
            else:
                assert_json_error(answer, 401, "token_inactive")
                await until(lambda: rows(it.proxy.store, "request")[0]["settled_at"])
                assert (it.row["status"], it.row["code"]) == (401, "token_inactive")

    run(main())


@both_paths
@pytest.mark.parametrize("kind", [HEAD + chunk(ONE), DOCUMENT], ids=["stream", "document"])
@pytest.mark.parametrize("hook", ["request", "responseheaders"])
def test_a_cut_just_after_a_hook_of_the_gateways_own(tmp_path: Path, hook: str, kind: bytes) -> None:
    async def main() -> None:
        addon = CutAt(hook)
        async with scene(tmp_path, [addon]) as it:
            addon.exchanges = it.proxy.exchanges
            it.ask(headers="Connection: close\r\n")
            if hook == "responseheaders":
                await it.exchange()
                it.upstream.send(kind)
            answer = await it.rest()
            if hook == "responseheaders" and kind.startswith(HEAD):
                assert last_of(Stream.of(answer).body) == "token_inactive"
            else:
                assert_json_error(answer, 401, "token_inactive")
            assert it.upstream.asked.is_set() is (hook == "responseheaders")

    run(main())


class Intercept:
    """An addon that intercepts each flow at a hook, as an operator may."""

    def __init__(self, hook: str) -> None:
        self.flows: list[http.HTTPFlow] = []
        setattr(self, hook, self._intercept)

    def _intercept(self, flow: http.HTTPFlow) -> None:
        flow.intercept()
        self.flows.append(flow)


@both_paths
@pytest.mark.parametrize("hook", ["request", "responseheaders"])
def test_an_intercepted_request_that_is_cut_goes_no_further_when_it_is_resumed(tmp_path: Path, hook: str) -> None:
    async def main() -> None:
        addon = Intercept(hook)
        async with scene(tmp_path, [addon]) as it:
            it.ask(headers="Connection: close\r\n")
            if hook == "responseheaders":
                await it.exchange()
                it.upstream.send(HEAD, chunk(ONE))
            await until(lambda: addon.flows)
            (flow_id,) = it.proxy.exchanges.all()
            found = it.proxy.exchanges.get(flow_id)
            assert found is not None
            found.cut(TokenInactive())
            await asyncio.sleep(0.05)
            addon.flows[0].resume()
            answer = await it.rest()
            if hook == "request":
                assert_json_error(answer, 401, "token_inactive")
                assert not it.upstream.asked.is_set()
            else:
                assert last_of(Stream.of(answer).body) == "token_inactive"

    run(main())


def answer_in_pieces(conversation: Conversation) -> None:
    """Answer each request with the same stream, in pieces of any size, and the end in the last one of them."""
    while True:
        conversation.read_head()
        wire = HEAD + b"".join(map(chunk, EVENTS)) + END
        places = sorted(random.sample(range(len(wire)), 8))
        for start, end in itertools.pairwise([0, *places, len(wire)]):
            conversation.send(wire[start:end])
            time.sleep(random.choice((0, 0, 0.001, 0.003)))  # noqa: S311 - no secret


EVENTS = [b'data: {"id": %d}\n\n' % number for number in range(30)]


@both_paths
def test_no_moment_of_a_cut_leaves_a_stream_that_looks_whole_and_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_in_pieces) as upstream:
            async with running(tmp_path, upstream.url) as proxy:

                async def ask() -> str:
                    """Return how a request ended that is cut at some moment."""
                    cutting = asyncio.create_task(cut_some(proxy))
                    answer = await proxy.ask(proxy.request("GET /v1/x"))
                    cutting.cancel()
                    return kind_of(answer)

                kinds = {kind for _ in range(15) for kind in await asyncio.gather(*(ask() for _ in range(8)))}
                while "cut" not in kinds:  # on a machine that is busy, answers may begin later than all cuts
                    kinds.update(await asyncio.gather(*(ask() for _ in range(8))))
                await until(lambda: not len(proxy.exchanges))

    run(main())


async def cut_some(proxy: Proxy) -> None:
    """Cut all that runs, after a while."""
    await asyncio.sleep(random.uniform(0, random.choice([0.04, 0.4])))  # noqa: S311 - no secret
    for flow_id in proxy.exchanges.all():
        found = proxy.exchanges.get(flow_id)
        if found is not None and found.opened is not None:
            found.cut(TokenInactive())


def kind_of(answer: bytes) -> str:
    """Return in which of the possible ways a request has ended; fail for any other one."""
    if answer.startswith(b"HTTP/1.1 401"):
        assert_json_error(answer, 401, "token_inactive")
        return "refused"
    stream, whole = Stream.of(answer), b"".join(EVENTS)
    if not stream.is_whole:
        assert whole.startswith(stream.body)
        return "broken off"
    if stream.body == whole:
        return "whole"
    assert last_of(stream.body) == "token_inactive"
    passed = stream.body[: stream.body.rindex(b"data: ")]
    assert whole.startswith(passed)
    assert len(passed) in {0, *itertools.accumulate(map(len, EVENTS))}
    return "cut"


# Uploads, which are for the layers on either path.


def test_an_upload_is_answered_while_it_is_sent(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as it:
            it.ask("POST /v1/files", headers=CHUNKED)
            it.writer.write(chunk(b"abc"))
            (await it.exchange()).cut(TokenInactive())
            assert_json_error(await read_answer(it.reader), 401, "token_inactive")
            await it.ended()
            it.writer.write(END)
            assert await it.rest() == b""

    run(main())


def test_a_response_that_comes_before_the_end_of_its_upload_ends_and_the_connection_serves_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as it:
            it.ask("POST /v1/files", headers="Transfer-Encoding: chunked\r\n")
            it.writer.write(chunk(b"abc"))
            found = await it.exchange()
            await it.begin(ONE)
            found.cut(TokenInactive())
            assert last_of(await it.whole()) == "token_inactive"
            await it.ended()
            it.writer.write(chunk(b"def") + END)
            it.ask("GET /health")
            assert head_and_body(await read_answer(it.reader))[0] == 200

    run(main())


def test_a_client_that_goes_on_with_its_upload_after_the_cut_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("addon.failures.LINGER", 0.1)

    async def main() -> None:
        async with scene(tmp_path) as it:
            it.ask("POST /v1/files", headers="Transfer-Encoding: chunked\r\n")
            found = await it.exchange()
            await it.begin(ONE)
            found.cut(TokenInactive())
            assert (await it.rest()).endswith(END)

    run(main())


def test_an_upload_that_was_read_first_is_answered_while_it_goes_upstream(tmp_path: Path) -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 8_000_000}]}).encode()
    asked, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def read_late(conversation: Conversation) -> None:
        conversation.read_head()
        asked.set()
        go_on.wait(DEADLINE)
        conversation.wait_until_closed()
        closed.set()

    async def main() -> None:
        with RawUpstream(read_late) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                proxy.token = make_token(proxy.store, allowed_models=["m"])
                writer.write(
                    proxy.request("POST /v1/chat/completions", headers=JSON + CHUNKED).encode() + chunk(body) + END
                )
                await until(asked.is_set)
                (flow_id,) = proxy.exchanges.all()
                found = proxy.exchanges.get(flow_id)
                assert found is not None
                assert found.spool is not None
                found.cut(TokenInactive())
                assert_json_error(await asyncio.wait_for(reader.read(), DEADLINE), 401, "token_inactive")
                go_on.set()
                await until(closed.is_set)
                assert found.spool is None
                assert len(proxy.exchanges) == 0

    run(main())


@pytest.mark.paths("off")
def test_a_replay_is_cut(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path, [ClientPlayback()]) as it:
            it.ask(headers="Connection: close\r\n")
            await it.exchange()
            it.upstream.send(HEAD, chunk(ONE), END)
            await it.rest()
            flow = await it.proxy.end_of_flow()
            await until(it.upstream.closed.is_set)
            it.upstream.asked.clear()
            it.proxy.master.commands.call("replay.client", [flow])
            found = await it.exchange()
            assert (found.client_id, found.lookup) == ("", "")
            it.upstream.send(HEAD, chunk(ONE))
            await until(lambda: found.tap is not None)
            Tokens(it.proxy.store).revoke(it.proxy.token.id)
            assert await it.proxy.end_of_flow() is flow
            assert flow.error is not None
            assert flow.error.msg == "The token has been revoked."
            await until(lambda: all(row["settled_at"] for row in rows(it.proxy.store, "request")))
            assert sorted(row["code"] or "" for row in rows(it.proxy.store, "request")) == ["", "token_inactive"]

    run(main())


# The poll.


class Poll:
    """The poll of a process with a real store: what it asks, and the exchanges that it has cut."""

    def __init__(self, store: Store, admission: Admission, patch: pytest.MonkeyPatch) -> None:
        self.store = store
        self.admission = admission
        self.exchanges = Exchanges(lambda *_: None)
        self.asked: list[tuple[float, AbstractSet[Running]]] = []
        self.cuts = Cuts(admission, self.exchanges)
        ended = admission.ended

        async def noted(requests: AbstractSet[Running]) -> Mapping[Running, GatewayError]:
            self.asked.append((asyncio.get_running_loop().time(), requests))
            return await ended(requests)

        patch.setattr(admission, "ended", noted)

    async def begin(self, token: TokenRecord, *, is_upload: bool = False) -> Exchange:
        """Begin a request of a token: it is admitted, or, as an upload that is read first, not yet."""
        flow = tflow.tflow(req=make_request())
        found = self.exchanges.open(flow)
        if not is_upload:
            admitted = await self.admission.admit(token.value, opening())
            found.admit(admitted, UPSTREAM, flow.request)
        return found

    async def rounds(self, number: int) -> None:
        """Wait until it has asked so many times more."""
        until_then = len(self.asked) + number
        await until(lambda: len(self.asked) >= until_then)


UPSTREAM = Origin("https", "host", 443, "")
INTERVAL = 0.02


@pytest.fixture
def poll(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Poll]:
    monkeypatch.setattr(cuts, "INTERVAL", INTERVAL)
    with opened(make_settings(tmp_path, store_timeout=1)) as store, admission_of(store) as admission:
        yield Poll(store, admission, monkeypatch)


def test_nothing_is_asked_without_running_requests(poll: Poll) -> None:
    async def main() -> None:
        poll.cuts.running()
        token = make_token(poll.store)
        await poll.begin(token, is_upload=True)
        refused = await poll.begin(token)
        refused.refuse(TokenInactive())
        await asyncio.sleep(5 * INTERVAL)
        assert poll.asked == []
        found = await poll.begin(token)
        await poll.rounds(1)
        assert found.flow is not None
        poll.exchanges.finish(found.flow.id)
        asked = len(poll.asked)
        await asyncio.sleep(5 * INTERVAL)
        assert len(poll.asked) == asked
        poll.cuts.done()

    run(main())


def test_one_query_asks_for_all_requests_and_no_sooner_than_after_the_interval(poll: Poll) -> None:
    async def main() -> None:
        tokens = [make_token(poll.store) for _ in range(3)]
        for _ in range(20):
            await asyncio.gather(*map(poll.begin, tokens))
        poll.cuts.running()
        await poll.rounds(5)
        poll.cuts.done()
        expected = {Running(token.id, poll.store.vault.lookup(token.value)) for token in tokens}
        assert all(requests == expected for _, requests in poll.asked)
        times = [time for time, _ in poll.asked]
        assert all(later - earlier > 0.9 * INTERVAL for earlier, later in itertools.pairwise(times))

    run(main())


def test_the_requests_of_a_token_that_has_ended_are_cut_and_no_others(
    poll: Poll, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        token, other = make_token(poll.store), make_token(poll.store)
        own = [await poll.begin(token) for _ in range(3)]
        kept = await poll.begin(other)
        poll.cuts.running()
        await poll.rounds(2)
        assert not any(each.refusal for each in (*own, kept))
        Tokens(poll.store).revoke(token.id)
        await until(lambda: all(each.refusal for each in own))
        await poll.rounds(2)
        assert {type(each.refusal) for each in own} == {TokenInactive}
        assert kept.refusal is None
        assert {each.token_id for each in poll.asked[-1][1]} == {other.id}  # those that are cut are not asked for
        poll.cuts.done()
        (line,) = [vars(record) for record in caplog.records if record.getMessage() == "requests are cut"]
        assert (line["token_id"], line["code"], line["requests"]) == (token.id, "token_inactive", 3)

    run(main())


def test_requests_go_on_while_the_store_does_not_answer_and_end_when_it_does(poll: Poll) -> None:
    async def main() -> None:
        token = make_token(poll.store)
        found = await poll.begin(token)
        poll.cuts.running()
        with foreign_lock(poll.store) as other:
            other.execute("UPDATE token SET is_active = FALSE")
            await poll.rounds(2)
            assert found.refusal is None
            other.execute("COMMIT")
        async with asyncio.timeout(1):
            await until(lambda: found.refusal)
        poll.cuts.done()

    run(main())


def test_a_fault_is_logged_and_the_poll_goes_on(
    poll: Poll, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        token = make_token(poll.store)
        first, second = [await poll.begin(token) for _ in range(2)]
        faults, running_now = [ValueError("a fault")], poll.exchanges.running

        def fail_once() -> dict[Running, list[Exchange]]:
            if faults:
                raise faults.pop()
            return running_now()

        monkeypatch.setattr(poll.exchanges, "running", fail_once)
        Tokens(poll.store).revoke(token.id)
        poll.cuts.running()
        await until(lambda: first.refusal and second.refusal)
        poll.cuts.done()
        assert [record.message for record in caplog.records if record.exc_info] == ["running requests are not checked"]

    run(main())


def test_the_poll_ends_with_the_process(poll: Poll) -> None:
    async def main() -> None:
        await poll.begin(make_token(poll.store))
        poll.cuts.done()  # before its beginning
        poll.cuts.running()
        await poll.rounds(1)
        poll.cuts.done()
        await asyncio.sleep(0)
        asked = len(poll.asked)
        await asyncio.sleep(5 * INTERVAL)
        assert len(poll.asked) == asked

    run(main())
