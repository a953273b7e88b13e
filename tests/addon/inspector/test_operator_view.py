import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import contentviews, http
from mitmproxy.addons.view import View
from mitmproxy.options import Options
from mitmproxy.test import taddons, tflow
from mitmproxy.tools import web
from mitmproxy.tools.web.app import IndexHandler
from mitmproxy.tools.web.master import WebMaster
from mitmproxy.tools.web.web_columns import AVAILABLE_WEB_COLUMNS
from support.gateway.flows import EVENT_STREAM, TOKEN_ID, admitted_flow
from support.stores.stores import make_settings

from addon import annotations
from addon.inspector.operator_view import COLUMNS, STYLE, OperatorView
from addon.patches import dispatch
from addon.streaming import Tap


class Bench:
    """The addon and a list of flows, with hooks called as mitmproxy does."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.flows = View()
        self.addon = OperatorView(make_settings(folder, **settings), self.flows)

    def begin(self, *, streamed: bool = True) -> http.HTTPFlow:
        flow = admitted_flow({"model": "m"})
        if streamed:
            flow.request.raw_content = None
        flow.request.stream = Tap() if streamed else False
        self.addon.requestheaders(flow)
        self.flows.requestheaders(flow)
        return flow

    def answer(self, flow: http.HTTPFlow, *, streamed: bool = True) -> None:
        flow.response = http.Response.make(
            200, b"{}", [(name.encode(), value.encode()) for name, value in [EVENT_STREAM]]
        )
        flow.response.stream = Tap() if streamed else False
        self.addon.responseheaders(flow)
        if streamed:
            flow.response.raw_content = None


def send(message: http.Message | None, *pieces: bytes) -> None:
    assert message is not None
    assert callable(message.stream)
    assert [message.stream(piece) for piece in pieces] == list(pieces)


def test_streamed_bodies_are_on_the_flow_at_their_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    flow = bench.begin()
    send(flow.request, b'{"model"', b': "m"}', b"")
    bench.addon.request(flow)
    assert flow.request.raw_content == b'{"model": "m"}'
    assert flow.comment == f"model=m project=Search token={TOKEN_ID}"
    bench.answer(flow)
    send(flow.response, b"data: {}\n", b"\n", b"")
    bench.addon.response(flow)
    assert flow.response is not None
    assert flow.response.raw_content == b"data: {}\n\n"
    assert (flow.request.stream, flow.response.stream) == (True, True)
    assert not annotations.is_truncated(flow)


def test_a_body_that_was_read_before_it_is_streamed_is_copied_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    flow = bench.begin(streamed=False)
    flow.request.raw_content = None
    annotations.note_passed(flow, "request", 4)
    flow.request.stream = Tap()  # the gateway's hook has admitted it
    bench.addon.request_spooled(flow)
    send(flow.request, b"ab", b"cd", b"")
    bench.addon.request(flow)
    assert flow.request.raw_content == b"abcd"
    assert not annotations.is_truncated(flow)


def test_a_response_before_the_end_of_its_request_marks_the_copy(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    flow = bench.begin()
    send(flow.request, b"ab")
    bench.answer(flow, streamed=False)
    bench.addon.response(flow)
    assert flow.request.raw_content == b"ab"
    assert annotations.is_truncated(flow)
    send(flow.request, b"cd", b"")
    bench.addon.request(flow)
    assert flow.request.raw_content == b"abcd"
    assert not annotations.is_truncated(flow)
    assert "truncated" not in flow.comment


def test_bodies_that_were_cut_are_marked(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    flow = bench.begin()
    send(flow.request, b"ab")
    bench.answer(flow)
    send(flow.response, b"data: x\n\n")
    bench.addon.error(flow)
    assert flow.response is not None
    assert (flow.request.raw_content, flow.response.raw_content) == (b"ab", b"data: x\n\n")
    assert (annotations.passed(flow, "request"), annotations.passed(flow, "response")) == (2, 9)
    assert " truncated=request,response " in flow.comment


def test_bodies_longer_than_the_copy_are_marked(tmp_path: Path) -> None:
    bench = Bench(tmp_path, web_body_copy=3)
    flow = bench.begin()
    send(flow.request, b"ab", b"cd", b"ef", b"")
    bench.addon.request(flow)
    assert flow.request.raw_content == b"abc"
    assert annotations.passed(flow, "request") == 6
    bench.answer(flow)
    send(flow.response, b"abcdef", b"")
    bench.addon.response(flow)
    assert annotations.passed(flow, "response") == 6
    bench.answer(flow, streamed=False)  # a replay
    assert annotations.passed(flow, "response") is None
    assert annotations.is_truncated(flow)


def test_no_copies_are_made_when_they_are_off(tmp_path: Path) -> None:
    bench = Bench(tmp_path, web_body_copy=0)
    flow = bench.begin()
    send(flow.request, b"ab", b"")
    bench.addon.request(flow)
    bench.answer(flow)
    send(flow.response, b"ab", b"")
    bench.addon.response(flow)
    assert flow.response is not None
    assert (flow.request.raw_content, flow.response.raw_content) == (None, None)
    assert not annotations.is_truncated(flow)


def test_bodies_that_are_not_streamed_are_unchanged(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    flow = bench.begin(streamed=False)
    bench.addon.request(flow)
    bench.answer(flow, streamed=False)
    bench.addon.response(flow)
    assert flow.request.raw_content == b'{"model": "m"}'
    assert flow.response is not None
    assert flow.response.raw_content == b"{}"


def test_the_last_flows_are_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path, web_flows=2)
    for _ in range(5):
        bench.begin().live = False
    assert bench.flows.store_count() == 2


def test_a_flow_without_a_response_gets_no_comment(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    flow = tflow.tflow(err=True)
    bench.addon.requestheaders(flow)
    bench.addon.error(flow)
    assert flow.comment == ""


def test_mitmweb_gets_the_view_and_the_columns(tmp_path: Path) -> None:
    async def main() -> None:
        master = WebMaster(Options(), with_termlog=False)
        dispatch.add_first(master, OperatorView(make_settings(tmp_path), master.view))
        assert master.options.web_columns == COLUMNS
        assert set(COLUMNS) <= set(AVAILABLE_WEB_COLUMNS)
        assert contentviews.registry["Conversation"].name == "Conversation"

    asyncio.run(main())


def test_the_classes_of_the_style_exist_in_mitmwebs_page() -> None:
    style = re.sub(r"/\*.*?\*/", "", STYLE.read_text(), flags=re.DOTALL)
    names = set(re.findall(r"\.([a-z-]+)", style))
    assert names == {"flow-table", "col-path", "col-comment", "contentview"}
    (script,) = (Path(web.__file__).parent / "static").glob("index-*.js")
    code = script.read_text()
    assert not [name for name in names if f'"{name}"' not in code]


def test_the_columns_that_an_operator_chose_stay(tmp_path: Path) -> None:
    async def main() -> None:
        master = WebMaster(Options(), with_termlog=False)
        master.options.update(web_columns=["path"])
        dispatch.add_first(master, OperatorView(make_settings(tmp_path), master.view))
        assert master.options.web_columns == ["path"]

    asyncio.run(main())


def test_a_tool_without_columns_is_accepted(tmp_path: Path) -> None:
    async def main() -> None:
        with taddons.context(View()) as context:
            context.master.addons.add(OperatorView(make_settings(tmp_path), View()))

    asyncio.run(main())


@pytest.fixture(autouse=True)
def _mitmproxy_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IndexHandler, "render_string", IndexHandler.render_string)
    registry = contentviews.registry
    monkeypatch.setattr(registry, "_by_name", dict(registry._by_name))  # noqa: SLF001
