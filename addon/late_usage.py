"""A usage that is known only after its request has ended, as it is counted here: noted on the flow, and told to addons.

A flow that nothing shows is not kept for that.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass

from mitmproxy import ctx, hooks, http

from addon import annotations
from addon.settling import Tell
from store.ledger.usage import Metered


@dataclass
class UsageEstimatedHook(hooks.Hook):
    """Called when a flow's usage was estimated and noted. mitmproxy takes it as a change of the flow."""

    flow: http.HTTPFlow


def teller(flow: http.HTTPFlow, request_id: str, note: Callable[[http.HTTPFlow, Metered], None]) -> Tell:
    """Return what notes the estimate of a request on its flow, unless the flow is gone, or was replayed meanwhile."""
    flow_if_kept = weakref.ref(flow)

    async def tell(metered: Metered) -> None:
        kept = flow_if_kept()
        if kept is not None and annotations.request_id(kept) == request_id:
            note(kept, metered)
            await ctx.master.addons.handle_lifecycle(UsageEstimatedHook(kept))

    return tell
