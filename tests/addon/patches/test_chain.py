import asyncio

from mitmproxy import http
from mitmproxy.options import Options
from mitmproxy.proxy.layers.http import HttpRequestHeadersHook
from mitmproxy.test import tflow
from mitmproxy.tools.dump import DumpMaster

from addon.patches import chain


class Recorder:
    def __init__(self, name: str, calls: list[str]) -> None:
        self.name = name
        self._calls = calls

    def requestheaders(self, _: http.HTTPFlow) -> None:
        self._calls.append(self.name)


def test_the_addon_is_asked_before_all_others() -> None:
    async def main() -> list[str]:
        calls: list[str] = []
        master = DumpMaster(Options(), with_termlog=False, with_dumper=False)
        master.addons.add(Recorder("other", calls))
        ours = Recorder("ours", calls)
        chain.add_first(master, ours)
        assert master.addons.chain[0] is ours
        assert master.addons.get("ours") is ours
        await master.addons.handle_lifecycle(HttpRequestHeadersHook(tflow.tflow()))
        return calls

    assert asyncio.run(main()) == ["ours", "other"]


def test_several_addons_are_asked_in_their_order() -> None:
    async def main() -> list[str]:
        calls: list[str] = []
        master = DumpMaster(Options(), with_termlog=False, with_dumper=False)
        chain.add_first(master, Recorder("first", calls), Recorder("second", calls))
        await master.addons.handle_lifecycle(HttpRequestHeadersHook(tflow.tflow()))
        return calls

    assert asyncio.run(main()) == ["first", "second"]
