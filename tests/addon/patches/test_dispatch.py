import asyncio
import logging
from collections.abc import Callable, Coroutine

import pytest
from mitmproxy import flow, http
from mitmproxy.exceptions import AddonHalt
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.proxy.layers.http import HttpRequestHeadersHook
from mitmproxy.test import tflow

from addon.patches import dispatch

type Calls = list[str]


class Addon:
    def __init__(self, name: str, calls: Calls, fault: Exception | None = None) -> None:
        self.name = name
        self.addons: list[Addon] = []
        self._calls = calls
        self._fault = fault

    def requestheaders(self, _: http.HTTPFlow) -> None:
        self._calls.append(self.name)
        if self._fault:
            raise self._fault


class Asynchronous(Addon):
    async def requestheaders(self, _: http.HTTPFlow) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self._calls.append(self.name)


class Updated(Addon):
    def update(self, flows: list[flow.Flow]) -> None:
        self._calls.append(f"update of {len(flows)}")


def run(test: Callable[[Master, Calls], Coroutine[object, object, None]]) -> Calls:
    """Run a test with a master whose dispatch is patched."""

    async def main() -> Calls:
        calls: Calls = []
        master = Master(Options())
        dispatch.install(master)
        await test(master, calls)
        return calls

    return asyncio.run(main())


async def trigger(master: Master) -> None:
    await master.addons.handle_lifecycle(HttpRequestHeadersHook(tflow.tflow()))


def test_all_addons_with_the_hook_are_called_in_their_order() -> None:
    async def test(master: Master, calls: Calls) -> None:
        outer = Addon("outer", calls)
        outer.addons = [Addon("inner", calls), Asynchronous("asynchronous", calls)]
        master.addons.add(outer, Addon("last", calls))
        await trigger(master)

    assert run(test) == ["outer", "inner", "asynchronous", "last"]


def test_added_addons_are_called_and_removed_ones_are_not() -> None:
    async def test(master: Master, calls: Calls) -> None:
        await trigger(master)
        first, second = Addon("first", calls), Addon("second", calls)
        master.addons.add(first)
        await trigger(master)
        master.addons.add(second)
        await trigger(master)
        master.addons.remove(first)
        await trigger(master)
        master.addons.clear()
        await trigger(master)

    assert run(test) == ["first", "first", "second", "second"]


def test_an_addon_added_to_another_addon_is_called() -> None:
    """As mitmproxy's addon for scripts does."""

    async def test(master: Master, calls: Calls) -> None:
        outer, inner = Addon("outer", calls), Addon("inner", calls)
        master.addons.add(outer)
        await trigger(master)
        master.addons.register(inner)
        outer.addons.append(inner)
        await trigger(master)

    assert run(test) == ["outer", "outer", "inner"]


def test_update_hooks_are_called_after_those_of_a_flow() -> None:
    async def test(master: Master, calls: Calls) -> None:
        master.addons.add(Updated("updated", calls), Addon("other", calls))
        await trigger(master)

    assert run(test) == ["updated", "other", "update of 1"]


def test_an_addon_that_fails_is_logged_and_the_others_are_called(caplog: pytest.LogCaptureFixture) -> None:
    async def test(master: Master, calls: Calls) -> None:
        master.addons.add(Addon("fails", calls, ValueError("a fault")), Addon("other", calls))
        await trigger(master)

    with caplog.at_level(logging.ERROR):
        assert run(test) == ["fails", "other"]
    assert "Addon error: a fault" in caplog.text


def test_no_addon_is_called_after_one_that_halts() -> None:
    async def test(master: Master, calls: Calls) -> None:
        master.addons.add(Updated("halts", calls, AddonHalt()), Addon("other", calls))
        await trigger(master)

    assert run(test) == ["halts", "update of 1"]


def test_a_hook_that_is_not_callable_is_rejected() -> None:
    async def test(master: Master, calls: Calls) -> None:
        wrong = Addon("wrong", calls)
        wrong.requestheaders = "no hook"  # type: ignore[method-assign,assignment]
        master.addons.add(wrong)
        await trigger(master)

    with pytest.raises(Exception, match="not callable"):
        run(test)


def test_an_addon_added_first_is_called_before_all_others() -> None:
    async def test(master: Master, calls: Calls) -> None:
        master.addons.add(Addon("other", calls))
        ours = Addon("ours", calls)
        dispatch.add_first(master, ours)
        assert master.addons.chain[0] is ours
        assert master.addons.get("ours") is ours
        await trigger(master)

    assert run(test) == ["ours", "other"]


def test_several_addons_added_first_are_called_in_their_order() -> None:
    async def test(master: Master, calls: Calls) -> None:
        dispatch.add_first(master, Addon("first", calls), Addon("second", calls))
        await trigger(master)

    assert run(test) == ["first", "second"]
