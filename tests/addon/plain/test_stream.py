import asyncio
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mitmproxy import http
from support.gateway.inprocess import (
    CLOSE,
    Hooks,
    head_and_body,
    run,
    running,
    until,
)
from support.gateway.processes import DEADLINE
from support.stores.stores import UNKNOWN_TOKEN, rows
from support.upstreams.upstreams import CLOSING, OK, Conversation, RawUpstream, json_response

pytestmark = pytest.mark.usefixtures("_rows_at_once")

SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
EVENT = b'data: {"id": "1"}\n\n'
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
USAGE = json_response({"model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}})
TIME = re.compile(rb'"(?:timestamp|expires_at)": "[^"]*"')
VARYING = re.compile(rb"(?i)(x-(?:llm-proxy-)?(?:request-id|remote-duration-ms): )[^\r]*")

CUT = re.compile("the upstream hung up|HTTP/1 protocol error.*")

type Addons = Callable[[], list[object]]


class At:
    """An addon that does something at a hook of a flow."""

    def __init__(self, hook: str, what: Callable[[http.HTTPFlow], object]) -> None:
        setattr(self, hook, what)


def raise_error(_: http.HTTPFlow) -> None:
    raise ValueError("an addon's fault")


def answer_it(flow: http.HTTPFlow) -> None:
    flow.response = http.Response.make(202, b"an addon's", {"X-Addon": "1"})


def replace_content(flow: http.HTTPFlow) -> None:
    if flow.response:
        flow.response.content = b'{"replaced": true}'


def edit_stream(flow: http.HTTPFlow) -> None:
    if flow.response:
        flow.response.stream = lambda data: [data.upper(), b"!"] if data else [b"?"]


class Case(NamedTuple):
    """A request, the upstream's response (none: it hangs up), and the addons that interfere."""

    response: bytes = OK
    line: str = "GET /v1/models"
    body: str = ""
    addons: Addons = list
    token: str = ""
    headers: str = CLOSE
    stays: bool = True
    """The upstream keeps its connection open."""


def at(hook: str, what: Callable[[http.HTTPFlow], object]) -> Addons:
    return lambda: [At(hook, what)]


CASES = {
    "a document": Case(),
    "a body": Case(line="POST /v1/chat/completions", body='{"model": "m", "messages": []}', response=USAGE),
    "GET with a body": Case(body="abc"),
    "HEAD": Case(OK.removesuffix(b"{}"), line="HEAD /v1/models"),
    "HEAD of a stream": Case(SSE + b"Transfer-Encoding: chunked\r\n\r\n", line="HEAD /v1/models"),
    "no content": Case(b"HTTP/1.1 204 No Content\r\n\r\n", line="DELETE /v1/x"),
    "not modified": Case(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    "an error": Case(OK.replace(b"200 OK", b"429 Slowly")),
    "location": Case(OK.replace(b"200 OK\r\n", b"302 Found\r\nLocation: /v1/other\r\n")),
    "interim responses": Case(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK),
    "chunks": Case(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n"),
    "no chunks": Case(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "events in chunks": Case(SSE + b"Transfer-Encoding: chunked\r\n\r\n" + 3 * CHUNK + b"0\r\n\r\n"),
    "events with a length": Case(SSE + b"Content-Length: %d\r\n\r\n" % len(EVENT) + EVENT),
    "events until the end": Case(SSE + b"\r\n" + EVENT, stays=False),
    "events until the end, to a client that stays": Case(SSE + b"\r\n" + EVENT, stays=False, headers=""),
    "half a stream, to a client that stays": Case(SSE + b"Content-Length: 50\r\n\r\n" + EVENT, stays=False, headers=""),
    "a document until the end": Case(b"HTTP/1.1 200 OK\r\n\r\n{}", stays=False),
    "an old upstream": Case(OK.replace(b"1.1", b"1.0"), stays=False),
    "the upstream closes": Case(CLOSING, stays=False),
    "no response": Case(b"", stays=False),
    "half a head": Case(OK[:20], stays=False),
    "half a document": Case(OK[:-1], stays=False),
    "half a stream": Case(SSE + b"Content-Length: 50\r\n\r\n" + EVENT, stays=False),
    "half a chunk": Case(SSE + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK + b"5\r\nab", stays=False),
    "nonsense": Case(b"nonsense\r\n\r\n"),
    "a switch that was not asked for": Case(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
    "a rejected key": Case(OK.replace(b"200 OK", b"401 No")),
    "an unknown token": Case(token=UNKNOWN_TOKEN),
    "an unknown token, with a body": Case(line="POST /v1/x", body="abc", token=UNKNOWN_TOKEN),
    "another path": Case(line="GET /v2"),
    "a bad path": Case(line="GET /v1/../v1/x"),
    "health": Case(line="GET /health"),
    "the token": Case(line="GET /token"),
    **{
        f"{name} at {hook}": Case(addons=at(hook, what), body="abc", line="POST /v1/x")
        for hook in Hooks.OF_FLOWS[:4]
        for name, what in (("killed", http.HTTPFlow.kill), ("a fault", raise_error))
    },
    **{f"a stream killed at {hook}": Case(
        SSE + b"Content-Length: %d\r\n\r\n" % len(EVENT) + EVENT, addons=at(hook, http.HTTPFlow.kill)
    ) for hook in Hooks.OF_FLOWS[:4]},
    **{f"answered at {hook}": Case(addons=at(hook, answer_it)) for hook in Hooks.OF_FLOWS[:2]},
    "replaced at response": Case(addons=at("response", replace_content)),
    "a stream edited": Case(
        SSE + b"Transfer-Encoding: chunked\r\n\r\n" + 3 * CHUNK + b"0\r\n\r\n",
        addons=at("responseheaders", edit_stream),
    ),
}  # fmt: skip

SAME = ("method", "path", "status", "streamed", "usage_source", "input_tokens", "output_tokens", "response_bytes")
"""The columns of a row that do not depend on time."""


def seen(
    folder: Path, plain_path: str, case: Case, caplog: pytest.LogCaptureFixture
) -> tuple[dict[str, Any], bytes, bool]:
    """Return what a client, addons, the log and the ledger see of a case; what went upstream, and whether it stays."""
    caplog.clear()
    folder.mkdir()
    found: dict[str, Any] = {}
    sent = b""

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(case.response)
        if case.stays:
            conversation.wait_until_closed()

    async def main() -> None:
        nonlocal sent
        hooks = Hooks()
        with RawUpstream(answer) as upstream:
            async with running(folder, upstream.url, addons=[*case.addons(), hooks], plain_path=plain_path) as proxy:
                async with proxy.connection() as (reader, writer):
                    request = proxy.request(case.line, headers=case.headers, body=case.body)
                    writer.write(request.replace(proxy.token.value, case.token or proxy.token.value).encode())
                    found["answer"] = TIME.sub(
                        b"", VARYING.sub(rb"\1", await asyncio.wait_for(reader.read(), DEADLINE))
                    )
                flow = await proxy.end_of_flow()
                found["error"] = CUT.sub("cut", flow.error.msg.partition(" (")[0]) if flow.error else None
                found["status"] = flow.response.status_code if flow.response else None
                found["content"] = TIME.sub(b"", flow.response.raw_content or b"") if flow.response else None
                await until(lambda: "client_disconnected" in hooks.called)
                found["open"] = len(proxy.exchanges)
                await until(lambda: all(row["settled_at"] for row in rows(proxy.store, "request")))
                found["rows"] = [{name: row[name] for name in SAME} for row in rows(proxy.store, "request")]
                found["served"] = proxy.served
                found["faults"] = [message.partition("\n")[0] for message in proxy.errors.messages]
                proxy.errors.messages.clear()
            found["hooks"] = hooks.of((*Hooks.OF_CLIENTS, *Hooks.OF_FLOWS, *Hooks.OF_UPSTREAMS[:3]))
            sent = upstream.received()
        lines = [vars(record) for record in caplog.records if record.name == "addon.access_log"]
        found["log"] = [{name: line.get(name) for name in ("status", "code", "path")} for line in lines]

    run(main())
    return found, sent, found.pop("served") == 1


@pytest.mark.parametrize("name", CASES)
def test_a_request_on_the_plain_path_looks_as_through_the_layers(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "addon.access_log")
    plain, sent, was_plain = seen(tmp_path / "on", "on", CASES[name], caplog)
    layers, expected, was_of_layers = seen(tmp_path / "off", "off", CASES[name], caplog)
    assert plain == layers
    assert without_port(sent) == without_port(expected)
    assert (was_plain, was_of_layers) == (True, False)
    assert plain["open"] == 0


@pytest.mark.parametrize(
    ("response", "status", "error"),
    [
        (SSE + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK + b"nonsense\r\n", 200, "malformed chunks"),
        (b"HTTP/1.1 200 OK\r\nX Y: z\r\n\r\n", 503, "Service temporarily unavailable"),
    ],
    ids=["chunks", "headers"],
)
def test_the_log_tells_what_the_client_gets_of_a_malformed_response(
    tmp_path: Path, response: bytes, status: int, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Through the layers it tells another status."""
    caplog.set_level(logging.DEBUG, "addon.access_log")
    found, _, _ = seen(tmp_path / "on", "on", Case(response), caplog)
    assert head_and_body(found["answer"])[0] == status
    assert [line["status"] for line in found["log"]] == [status]
    assert found["error"] == error


def without_port(received: bytes) -> bytes:
    return re.sub(rb"(?i)\r\nhost: [^\r]*", b"\r\nhost: x", received)
