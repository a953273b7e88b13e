import asyncio
import logging

import pytest
from mitmproxy.proxy.layers.http import HttpRequestHook as RequestHook
from mitmproxy.test.tflow import tflow

from addon.serving.lean_master import LeanMaster


def test_the_master_has_four_addons_and_no_log_events(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> list[str]:
        master = LeanMaster()
        logging.getLogger("addon").error("no event for anybody")
        await asyncio.sleep(0)
        await master.done()
        assert [*master.addons._iter_hooks(master.addons.get("tlsconfig"), RequestHook(tflow()))] == []  # noqa: SLF001
        return [*master.addons.lookup]

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(main()) == ["proxyserver", "nextlayer", "tlsconfig", "errorcheck"]
    assert [record.message for record in caplog.records] == ["no event for anybody"]
