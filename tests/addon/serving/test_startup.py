from pathlib import Path

from mitmproxy.proxy.mode_servers import ReverseInstance
from mitmproxy.proxy.server import ConnectionHandler
from support.gateway.inprocess import run, running

from addon.gateway import Gateway
from addon.patches.dispatch import Dispatcher
from addon.serving.startup import Upkeep
from addon.websocket_frames import WebSocketFrames


def test_the_gateways_addons_come_before_all_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, "http://127.0.0.1:9") as proxy:
            addons = proxy.master.addons
            assert isinstance(addons, Dispatcher)
            assert [type(addon) for addon in addons.chain[:3]] == [Upkeep, Gateway, WebSocketFrames]

    run(main())


def test_nothing_in_mitmproxy_stays_replaced_after_a_test(tmp_path: Path) -> None:
    replaced = (ConnectionHandler.handle_connection, ReverseInstance.listen)

    async def main() -> None:
        async with running(tmp_path, "http://127.0.0.1:9"):
            assert ConnectionHandler.handle_connection is not replaced[0]
            assert ReverseInstance.listen is not replaced[1]

    run(main())
    assert (ConnectionHandler.handle_connection, ReverseInstance.listen) == replaced
