import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
import zstandard
from mitmproxy import contentviews, http
from mitmproxy.contentviews._registry import ContentviewRegistry
from mitmproxy.test import taddons, tflow
from support.gateway.flows import EVENT_STREAM, JSON, admitted_flow, answer

from addon import annotations
from addon.annotations import Side
from addon.inspector import content_view
from addon.inspector.content_view import ConversationContentview

ASKED = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
ANSWERED = {"model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}}]}
STREAMED = "".join(
    f"data: {json.dumps({'model': 'm', 'choices': [{'index': 0, 'delta': {'content': word}}]})}\n\n"
    for word in ["H", "i", "."]
).encode()
ASKED_TEXT = "chat completion · m\n \n── user ──\nHello!\n"
ANSWERED_TEXT = "chat completion · m\n \n── assistant ──\nHi.\n"


def shown(flow: http.HTTPFlow, side: Side, view: str = "auto") -> contentviews.ContentviewResult:
    """Return the text that mitmweb shows for one side of a flow."""
    registry = ContentviewRegistry()
    for one in contentviews.registry.values():
        registry.register(one)
    registry.register(ConversationContentview)
    message = flow.request if side == "request" else flow.response
    assert message is not None
    return prettified(lambda: contentviews.prettify_message(message, flow, view, registry))


def prettified(view: Callable[[], contentviews.ContentviewResult]) -> contentviews.ContentviewResult:
    async def main() -> contentviews.ContentviewResult:
        with taddons.context():
            return view()

    return asyncio.run(main())


def test_mitmweb_shows_a_conversation() -> None:
    flow = admitted_flow(ASKED)
    answer(flow, ANSWERED)
    assert (shown(flow, "request").view_name, shown(flow, "request").text) == ("Conversation", ASKED_TEXT)
    assert (shown(flow, "response").view_name, shown(flow, "response").text) == ("Conversation", ANSWERED_TEXT)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_mitmweb_shows_a_compressed_conversation(coding: str) -> None:
    compress = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.compress}[coding]
    flow = admitted_flow(ASKED)
    for content, kind in [(json.dumps(ANSWERED).encode(), JSON), (STREAMED, EVENT_STREAM)]:
        answer(flow, compress(content), kind, ("Content-Encoding", coding))
        result = shown(flow, "response")
        assert (result.text, result.description) == (ANSWERED_TEXT, f"[decoded {coding}]")


def flushed(coding: str, data: bytes) -> bytes:
    """Compress the start of a stream like a server that flushes each event."""
    if coding == "br":
        compressor: Any = brotli.Compressor()
        return bytes(compressor.process(data) + compressor.flush())
    if coding == "zstd":
        frame = zstandard.ZstdCompressor().compressobj()
        return frame.compress(data) + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    member = zlib.compressobj(wbits=31)
    return member.compress(data) + member.flush(zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_a_compressed_stream_that_was_cut_is_shown_as_far_as_it_goes(coding: str) -> None:
    flow = admitted_flow(ASKED)
    start = b"".join(event + b"\n\n" for event in STREAMED.split(b"\n\n")[:2])
    coded = flushed(coding, start)
    answer(flow, coded, EVENT_STREAM, ("Content-Encoding", coding))
    annotations.note_passed(flow, "response", len(coded))
    text = shown(flow, "response").text
    assert text.startswith("[Broke off after ")
    assert text.endswith("── assistant ──\nHi\n")


def test_a_truncated_copy_is_marked() -> None:
    flow = admitted_flow()
    flow.request.raw_content = json.dumps(ASKED).encode()[:-7]
    annotations.note_passed(flow, "request", 3_400_000)
    result = shown(flow, "request").text
    assert result == "[Only the first 60 bytes of 3.4 MB were kept: WEB_BODY_COPY]\n \n" + ASKED_TEXT.replace("lo!", "")


@pytest.mark.parametrize(
    ("path", "headers", "content", "view"),
    [
        ("/v1/models", [JSON], b'{"choices": []}', "JSON"),
        ("/v1/chat/completions", [("Content-Type", "image/png")], b"\x89PNG", "Image"),
        ("/v1/chat/completions", [("Content-Type", "text/plain")], b"hello", "Raw"),
        ("/v1/chat/completions", [], b"hello", "Raw"),
        ("/v1/chat/completions", [JSON], b"", "Raw"),
    ],
)
def test_other_bodies_are_shown_as_without_the_view(
    path: str, headers: list[tuple[str, str]], content: bytes, view: str
) -> None:
    flow = admitted_flow(path=path)
    answer(flow, content, *(headers or [("X-None", "1")]))
    assert shown(flow, "response").view_name == view


@pytest.mark.parametrize(
    ("headers", "content", "text"),
    [
        ([JSON], b'{"new": "shape"}', '{\n    "new": "shape"\n}'),
        ([JSON], b"no json", "no json"),
        ([JSON], b"[" * 5000, "[" * 5000),
        ([EVENT_STREAM], b"data: other\n\n", "data: other\n\n"),
        ([JSON, ("Content-Encoding", "gzip")], b"no gzip", "no gzip"),
        ([JSON, ("Content-Encoding", "new")], b"{}", "{}"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/embeddings"])
def test_a_body_of_another_form_is_shown_as_without_the_view(
    path: str, headers: list[tuple[str, str]], content: bytes, text: str
) -> None:
    flow = admitted_flow(path=path)
    answer(flow, content, *headers)
    assert shown(flow, "response").text == text


def test_the_view_shows_other_endpoints_as_json() -> None:
    flow = admitted_flow({"a": 1}, path="/v1/models")
    assert shown(flow, "request", "conversation").text == '{\n    "a": 1\n}'


def test_a_tcp_flow_is_shown_as_without_the_view() -> None:
    tcp = tflow.ttcpflow()
    assert prettified(lambda: contentviews.prettify_message(tcp.messages[0], tcp, "auto")).text == "hello"
    assert ConversationContentview().render_priority(b"x", contentviews.Metadata()) < 0


def test_only_the_start_of_a_huge_body_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_view, "MAX_SHOWN", 100)
    flow = admitted_flow()
    flow.request.raw_content = json.dumps({**ASKED, "user": "x" * 500}).encode()
    assert shown(flow, "request").text.endswith("── user ──\nHello!\n")
