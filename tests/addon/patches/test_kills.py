import asyncio
from pathlib import Path

import pytest
from mitmproxy import http
from support.gateway.inprocess import run, running
from support.gateway.processes import DEADLINE
from support.upstreams.upstreams import RawUpstream, answer_all


class Intercept:
    """What an operator does in mitmweb: hold a flow at a hook."""

    def __init__(self, hook: str) -> None:
        self.held: asyncio.Queue[http.HTTPFlow] = asyncio.Queue()
        setattr(self, hook, self._hold)

    def _hold(self, flow: http.HTTPFlow) -> None:
        flow.intercept()
        self.held.put_nowait(flow)


@pytest.mark.parametrize("hook", ["requestheaders", "request", "responseheaders", "response"])
def test_a_flow_that_is_killed_while_it_is_held_ends(tmp_path: Path, hook: str) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                intercept = Intercept(hook)
                proxy.master.addons.add(intercept)
                writer.write(proxy.request(headers="").encode())
                flow = await asyncio.wait_for(intercept.held.get(), DEADLINE)
                await asyncio.sleep(0)  # until it waits
                flow.kill()
                assert await asyncio.wait_for(reader.read(), DEADLINE) == b""
                assert len(proxy.exchanges) == 0

    run(main())
