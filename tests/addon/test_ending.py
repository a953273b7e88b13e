import asyncio
import gc

from mitmproxy import http
from mitmproxy.addons.view import View
from mitmproxy.test import taddons
from support.gateway.flows import admitted_flow

from addon import annotations, ending
from addon.annotations import Used
from store.ledger.usage import Consumption, Metered, Source
from store.request import Holder

ESTIMATE = Metered(Source.ESTIMATED, (Consumption("gpt-4o", {"input_tokens": 3, "output_tokens": 1}),), model="gpt-4o")
REQUEST_ID = "0"


class Listener:
    """An addon that records the hooks that it gets."""

    def __init__(self) -> None:
        self.noted: list[Used] = []
        self.updated: list[http.HTTPFlow] = []

    def usage_noted(self, flow: http.HTTPFlow) -> None:
        assert self.updated == []
        self.noted.append(annotations.used(flow))

    def update(self, flows: list[http.HTTPFlow]) -> None:
        self.updated += flows


def estimate(flow: http.HTTPFlow, request_id: str = REQUEST_ID) -> Listener:
    """Note the estimate of a request."""
    listener = Listener()

    async def main() -> None:
        with taddons.context(View(), listener):
            await ending.when_estimated(flow, request_id, annotations.note_used)(ESTIMATE)

    asyncio.run(main())
    return listener


def test_an_estimate_is_noted_and_then_shown_as_a_change_of_the_flow() -> None:
    flow = admitted_flow()
    listener = estimate(flow)
    assert listener.noted == [Used("gpt-4o", 3, 1, is_estimated=True)]
    assert listener.updated == [flow]


def test_an_estimate_from_before_a_replay_is_dropped() -> None:
    flow = admitted_flow()
    annotations.write(flow, "1", Holder("2", None, "1", "Search"))
    listener = estimate(flow)
    assert (listener.noted, listener.updated) == ([], [])
    assert annotations.used(flow) == Used()


def test_a_flow_that_nothing_shows_is_not_kept() -> None:
    noted: list[http.HTTPFlow] = []
    note_later = ending.when_estimated(admitted_flow(), REQUEST_ID, lambda flow, _: noted.append(flow))
    gc.collect()

    async def main() -> None:
        await note_later(ESTIMATE)

    asyncio.run(main())
    assert noted == []
