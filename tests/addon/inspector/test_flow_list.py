import asyncio

from mitmproxy import http
from mitmproxy.addons.view import View
from mitmproxy.options import Options
from mitmproxy.test import tflow
from mitmproxy.tools.dump import DumpMaster
from mitmproxy.tools.web.master import WebMaster

from addon.inspector import flow_list


def ended_flow() -> http.HTTPFlow:
    flow = tflow.tflow(resp=True)
    flow.live = False
    return flow


def add(view: View, flow: http.HTTPFlow, limit: int = 3) -> None:
    flow_list.make_room(view, limit)
    view.add([flow])


def kept(view: View) -> list[str]:
    return [flow.id for flow in view.resolve("@all")]


def test_only_mitmweb_keeps_a_list() -> None:
    async def main() -> None:
        assert flow_list.of(WebMaster(Options(), with_termlog=False)) is not None
        assert flow_list.of(DumpMaster(Options(), with_termlog=False, with_dumper=False)) is None

    asyncio.run(main())


def test_the_last_flows_are_kept() -> None:
    view = View()
    flows = [ended_flow() for _ in range(10)]
    removed: list[str] = []
    signal = lambda flow, index: removed.append(flow.id)  # noqa: ARG005, E731
    view.sig_view_remove.connect(signal)
    for flow in flows:
        add(view, flow)
    assert kept(view) == [flow.id for flow in flows[-3:]]
    assert removed == [flow.id for flow in flows[:-3]]  # the browsers are updated


def test_hidden_flows_are_removed_too() -> None:
    view = View()
    view.set_filter_cmd("~comment none")
    for _ in range(10):
        add(view, ended_flow())
    assert view.store_count() == 3


def test_a_flow_under_way_stays() -> None:
    view = View()
    running = [tflow.tflow() for _ in range(5)]
    for flow in running:
        flow.live = True
        flow.client_conn.timestamp_end = None
        add(view, flow)
    assert kept(view) == [flow.id for flow in running]
    last = ended_flow()
    add(view, last)
    assert kept(view) == [*[flow.id for flow in running], last.id]
    running[1].live = False
    add(view, new := ended_flow())
    assert kept(view) == [*[flow.id for flow in running if flow.live], new.id]
    assert not any(flow.error for flow in running)


def test_a_flow_that_mitmproxy_never_ended_is_removed() -> None:
    view = View()
    forgotten, replayed = tflow.tflow(), tflow.tflow()
    for flow in (forgotten, replayed):
        flow.live = True
        flow.client_conn.timestamp_end = 1.0
    replayed.is_replay = "request"
    view.add([forgotten, replayed])
    add(view, ended_flow(), limit=2)
    assert forgotten.id not in kept(view)
    assert replayed.id in kept(view)
