"""The list of models that a token sees, on each path. The upstream's is written by the tests, byte for byte."""

import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Container
from pathlib import Path

import pytest
from mitmproxy import http
from support.clients.http2 import Http2Client
from support.gateway.inprocess import CLOSE, Proxy, assert_json_error, head_and_body, run, running, until
from support.gateway.requests import make_request
from support.stores.stores import rows
from support.upstreams.upstreams import Conversation, RawUpstream, answer_all

from addon import shown_models
from addon.exchange import Exchange, Exchanges

BODY = b'{"object": "list",\n "data": [{"id": "x"}, {"id": "a", "n": 1.0}, {"id": "y"}]}'
SHOWN = b'{"object": "list",\n "data": [{"id": "a", "n": 1.0}]}'
WRONG = "ETag: x\r\nContent-MD5: x\r\nDigest: x\r\nAccept-Ranges: bytes\r\nLast-Modified: x\r\nRepr-Digest: x\r\n"
ABOUT = ("etag", "content-md5", "digest", "accept-ranges", "last-modified", "repr-digest")

on_both_paths = pytest.mark.paths("on", "off")


class Policy:
    """An addon that lets each token see some models only, as its admission will."""

    def __init__(self, shown: Container[str] | None = frozenset({"a", "z"})) -> None:
        self.shown = shown
        self.exchanges: Exchanges | None = None

    def request(self, flow: http.HTTPFlow) -> None:
        exchange = self.exchanges.get(flow.id) if self.exchanges else None
        if exchange is not None:
            exchange.shown_models = self.shown


@contextlib.asynccontextmanager
async def listing(
    folder: Path, answer: bytes, policy: Policy | None = None
) -> AsyncIterator[tuple[Proxy, RawUpstream]]:
    """Run a proxy with a policy before an upstream that gives each request one answer."""
    policy = policy or Policy()
    with RawUpstream(answer_all(answer)) as upstream:
        async with running(folder, upstream.url, addons=[policy]) as proxy:
            policy.exchanges = proxy.exchanges
            yield proxy, upstream


async def statuses(proxy: Proxy) -> list[int]:
    """Return the statuses in the ledger, once all requests are settled there."""
    await until(lambda: all(row["settled_at"] for row in rows(proxy.store, "request")))
    return [row["status"] for row in sorted(rows(proxy.store, "request"), key=lambda row: str(row["id"]))]


def answered(body: bytes = BODY, headers: str = "", *, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chunked(body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{headers}Transfer-Encoding: chunked\r\n\r\n"
    chunks = [body[at : at + 20_000] for at in range(0, len(body), 20_000)]
    return head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


ANSWERS = {
    "whole": answered(),
    "chunked": chunked(BODY),
    "gzip": answered(gzip.compress(BODY), "Content-Encoding: gzip\r\n"),
    "chunked gzip": chunked(gzip.compress(BODY), "content-encoding: gzip\r\n"),
    "an event stream by its type": answered().replace(b"application/json", b"text/event-stream"),
    "headers that would be wrong": answered(headers=WRONG),
    "another success": answered(status="203 Changed on the way"),
    "large": chunked(BODY.replace(b'"x"', b'"%b"' % (b"x" * 1_500_000))),
}


@on_both_paths
@pytest.mark.parametrize("kind", ANSWERS)
def test_a_token_sees_its_models_and_no_others(tmp_path: Path, kind: str) -> None:
    async def main() -> None:
        async with listing(tmp_path, ANSWERS[kind]) as (proxy, upstream):
            sent = "Accept-Encoding: gzip, br\r\nRange: bytes=0-9\r\nIf-None-Match: x\r\n"
            for headers in (sent, CLOSE):
                answer = await proxy.ask_and_stay(proxy.request(headers=headers))
                status, told, body = head_and_body(answer)
                assert (status, body) == (203 if "another" in kind else 200, SHOWN)
                assert told["content-length"] == str(len(SHOWN))
                assert told["content-type"]
                assert told["x-llm-proxy-remote-duration-ms"]
                assert not {"content-encoding", "transfer-encoding", *ABOUT} & told.keys()
                shown = await proxy.end_of_flow()
                assert shown.response is not None
                assert shown.response.content == SHOWN  # in mitmweb
                assert "gzip" in shown.request.headers["accept-encoding"] if headers == sent else True
            assert await statuses(proxy) == [status] * 2
        received = upstream.received().lower()
        assert received.count(b"accept-encoding: identity\r\n") == received.count(b"accept-encoding:") == 2
        assert b"range:" not in received
        assert b"if-none-match:" not in received

    run(main())


LONG = b'{"data": [' + b" " * 200_000 + b"]}"
BAD = {
    "no JSON": answered(b"<html>"),
    "another form": answered(b'{"models": {"a": {}}}'),
    "a name twice": answered(b'{"data": [{"id": "x", "id": "a"}]}'),
    "no UTF-8": answered(BODY.replace(b'"x"', b'"\xff"')),
    "an unknown coding": answered(BODY, "Content-Encoding: zip\r\n"),
    "two codings": answered(gzip.compress(gzip.compress(BODY)), "Content-Encoding: gzip, gzip\r\n"),
    "gzip that is none": answered(BODY, "Content-Encoding: gzip\r\n"),
    "gzip that was cut": answered(gzip.compress(BODY)[:-20], "Content-Encoding: gzip\r\n"),
    "a part": answered(status="206 Partial Content", headers="Content-Range: bytes 0-9/99\r\n"),
    "too long": chunked(LONG),
    "too long when decoded": answered(gzip.compress(LONG), "Content-Encoding: gzip\r\n"),
}


@on_both_paths
@pytest.mark.parametrize("kind", BAD)
def test_a_list_that_cannot_be_filtered_is_not_shown(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shown_models, "MAX_LIST", 100_000)

    async def main() -> None:
        async with listing(tmp_path, BAD[kind]) as (proxy, _):
            answer = await proxy.ask_and_stay(proxy.request(headers=""))
            assert_json_error(answer, 503, "service_unavailable")
            assert "list of models cannot be read" in json.loads(head_and_body(answer)[2])["message"]
            assert b'"x"' not in answer
            await proxy.end_of_flow()
            assert len(proxy.exchanges) == 0
            policy_of(proxy).shown = None  # and the next request is served
            assert head_and_body(await proxy.ask(proxy.request()))[0] in {200, 206}
            assert (await statuses(proxy))[0] == 503
        assert [record.getMessage() for record in caplog.records].count("a list of models cannot be filtered") == 1

    run(main())


def policy_of(proxy: Proxy) -> Policy:
    (policy,) = [addon for addon in proxy.master.addons.chain if isinstance(addon, Policy)]
    return policy


@on_both_paths
def test_a_fault_of_the_filter_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> bytes:
        raise KeyError("a fault")

    monkeypatch.setattr("addon.protocol.model_list.shown", fail)

    async def main() -> None:
        async with listing(tmp_path, answered()) as (proxy, _):
            assert_json_error(await proxy.ask(proxy.request()), 500, "internal_error")
            proxy.errors.messages.clear()  # it is logged, as it should be
            assert await statuses(proxy) == [500]

    run(main())
    assert "a list of models could not be filtered" in caplog.text


@on_both_paths
@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("GET /v1/models/x", answered(headers=WRONG)),
        ("GET /v1/models/x/", chunked(BODY)),
        ("POST /v1/models", answered(headers=WRONG)),
        ("GET /v1/model", answered(headers=WRONG)),
        ("GET /v1/models", answered(status="404 Not Found", headers=WRONG)),
        ("GET /v1/models", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"),
        ("GET /v1/models", b"HTTP/1.1 204 No Content\r\nX-A: y\r\n\r\n"),
        ("GET /v1/models", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_any_other_response_passes_as_it_came(tmp_path: Path, line: str, answer: bytes) -> None:
    async def main() -> None:
        async with listing(tmp_path, answer) as (proxy, _):
            got = await proxy.ask(proxy.request(line))
            head, _, body = answer.partition(b"\r\n\r\n")
            assert got.endswith(b"\r\n\r\n" + body)
            fields = head.split(b"\r\n")[1:]
            assert [field for field in got.partition(b"\r\n\r\n")[0].split(b"\r\n") if field in fields] == fields

    run(main())


@on_both_paths
def test_without_a_policy_the_list_passes_as_it_came(tmp_path: Path) -> None:
    async def main() -> None:
        policy = Policy(None)
        async with listing(tmp_path, answered(gzip.compress(BODY), f"Content-Encoding: gzip\r\n{WRONG}"), policy) as (
            proxy,
            upstream,
        ):
            got = await proxy.ask(proxy.request(headers=f"Accept-Encoding: gzip\r\nRange: bytes=0-9\r\n{CLOSE}"))
            _, told, body = head_and_body(got)
            assert gzip.decompress(body) == BODY
            assert set(ABOUT) <= told.keys()
            assert b"accept-encoding: gzip\r\nrange: bytes=0-9\r\n" in upstream.received().lower()

    run(main())


@on_both_paths
def test_head_is_told_no_length_of_what_get_does_not_show(tmp_path: Path) -> None:
    def answer(conversation: Conversation) -> None:
        while True:
            conversation.read_head()
            conversation.send(answered(headers=WRONG).partition(b"\r\n\r\n")[0] + b"\r\n\r\n")

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            policy = Policy()
            async with running(tmp_path, upstream.url, addons=[policy]) as proxy:
                policy.exchanges = proxy.exchanges
                status, told, body = head_and_body(await proxy.ask(proxy.request("HEAD /v1/models")))
                assert (status, body) == (200, b"")
                assert told["content-type"] == "application/json"
                assert not {"content-length", "transfer-encoding", *ABOUT} & told.keys()

    run(main())


def test_over_http2_a_token_sees_its_models_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with listing(tmp_path, chunked(BODY)) as (proxy, _), Http2Client.connect(proxy.port) as client:
            stream = client.get("/v1/models?limit=1000", proxy.token.value)
            assert await client.status(stream) == 200
            assert client.body(stream) == SHOWN
            answer = await client.answer(stream)
            assert answer is not None
            assert answer["content-length"] == str(len(SHOWN))

    run(main())


@pytest.mark.parametrize(
    ("method", "path", "filtered"),
    [
        ("GET", "/v1/models", True),
        ("HEAD", "/v1/models", True),
        ("GET", "/v1/models/", True),
        ("GET", "/v1/models?after_id=x&limit=5", True),
        ("GET", "/v1/%6Dodels", True),
        ("GET", "/v1%2Fmodels", True),
        ("GET", "/v1/models%2F?a", True),
        ("POST", "/v1/models", False),
        ("DELETE", "/v1/models/x", False),
        ("GET", "/v1/models/x", False),
        ("GET", "/v1/models?/x", True),
        ("GET", "/v1/modelsx", False),
        ("GET", "/v1/Models", False),
        ("GET", "/v1/x/models", False),
    ],
)
def test_the_list_is_known_by_its_path_decoded_once(method: str, path: str, filtered: bool) -> None:
    request = make_request(method=method, path=path)
    assert shown_models.is_filtered(Exchange(shown_models=frozenset()), request) is filtered
    assert not shown_models.is_filtered(Exchange(), request)
