import asyncio
import gc

from mitmproxy import http
from mitmproxy.addons.view import View
from mitmproxy.test import taddons
from support.gateway.flows import admitted_flow

from addon import annotations, late_usage
from addon.annotations import Used
from store.admission.holder import Holder
from store.ledger.usage import Consumption, Metered, Source

ESTIMATE = Metered(Source.ESTIMATED, (Consumption("gpt-4o", {"input_tokens": 3, "output_tokens": 1}),), model="gpt-4o")
REQUEST_ID = "0"


class Listener:
    """An addon that keeps what it is told."""

    def __init__(self) -> None:
        self.estimated: list[Used] = []
        self.updated: list[http.HTTPFlow] = []

    def usage_estimated(self, flow: http.HTTPFlow) -> None:
        assert self.updated == []
        self.estimated.append(annotations.used(flow))

    def update(self, flows: list[http.HTTPFlow]) -> None:
        self.updated += flows


def tell(flow: http.HTTPFlow, request_id: str = REQUEST_ID) -> Listener:
    """Tell of the estimate of a request."""
    listener = Listener()

    async def main() -> None:
        with taddons.context(View(), listener):
            await late_usage.teller(flow, request_id, annotations.note_used)(ESTIMATE)

    asyncio.run(main())
    return listener


def test_an_estimate_is_noted_and_then_told_to_addons_as_a_change_of_the_flow() -> None:
    flow = admitted_flow()
    listener = tell(flow)
    assert listener.estimated == [Used("gpt-4o", 3, 1, is_estimated=True)]
    assert listener.updated == [flow]


def test_an_estimate_of_what_came_before_a_replay_is_dropped() -> None:
    flow = admitted_flow()
    annotations.write(flow, "1", Holder("2", None, "1", "Search"))
    listener = tell(flow)
    assert (listener.estimated, listener.updated) == ([], [])
    assert annotations.used(flow) == Used()


def test_a_flow_that_nothing_shows_is_not_kept() -> None:
    noted: list[http.HTTPFlow] = []
    tell_later = late_usage.teller(admitted_flow(), REQUEST_ID, lambda flow, _: noted.append(flow))
    gc.collect()

    async def main() -> None:
        await tell_later(ESTIMATE)

    asyncio.run(main())
    assert noted == []
