"""Bounds mitmweb's list of flows, which has no bound of its own.

It reads a private part of mitmproxy: `View._store`.
"""

import itertools

from mitmproxy import flow as mitmproxy_flow
from mitmproxy.addons.view import View
from mitmproxy.master import Master

type FlowList = View


def of(master: Master) -> FlowList | None:
    """Return the list of flows of a tool; None for mitmdump, and for the launcher without --web."""
    view = master.addons.get("view")
    return view if isinstance(view, View) else None


def make_room(flows: FlowList, limit: int) -> None:
    """Remove the oldest flows so that one more makes at most `limit`. Flows under way stay."""
    surplus = flows.store_count() + 1 - limit
    if surplus > 0:
        ended = (flow for flow in flows._store.values() if not _is_running(flow))  # noqa: SLF001 - `resolve` would copy it
        for flow in list(itertools.islice(ended, surplus)):
            flows.remove([flow])


def _is_running(flow: mitmproxy_flow.Flow) -> bool:
    """Tell whether a flow is under way. One whose client hangs up at the wrong moment stays `live` for ever."""
    return flow.live and (flow.client_conn.timestamp_end is None or flow.is_replay == "request")
