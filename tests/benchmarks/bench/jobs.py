"""The requests that are sent to a contestant, measure by measure."""

import random

from benchmarks.bench.load import Ask, Job
from benchmarks.bench.messages import request
from benchmarks.bench.site import Running
from support.stores.stores import UNKNOWN_TOKEN

APART = 0.002
"""Seconds between the starts of two clients: more at once than fit into a queue (mitmdump's has 100) wait for long."""

EVENT_CONNECTIONS, EVENT_COUNT, EVENT_PAUSE_MS = 16, 100, 10
MIX_CONNECTIONS, MIX_EVENTS = 32, 20
STREAMED, HUNG_UP, UNKNOWN, USED_UP = 10, 2, 3, 3
"""Their numbers among a hundred mixed requests; the others are plain."""


def plain(connections: int, contestant: Running, *, kept: bool = True) -> Job:
    """Return requests for chat completions that are answered whole."""
    return Job(contestant.port, [Ask(request(contestant.credentials.token))], connections, kept=kept, apart=APART)


def streams(contestant: Running) -> Job:
    """Return requests for chat completions that are answered with events."""
    ask = Ask(request(contestant.credentials.token, events=EVENT_COUNT, pause_ms=EVENT_PAUSE_MS))
    lasts = EVENT_COUNT * EVENT_PAUSE_MS / 1000
    return Job(contestant.port, [ask], EVENT_CONNECTIONS, apart=lasts / EVENT_CONNECTIONS)


def mixed(contestant: Running) -> Job:
    """Return the mix of a usual day, in random order: also streams, refusals and clients that hang up."""
    token, small = contestant.credentials
    asks = [
        *[Ask(request(token, events=MIX_EVENTS))] * STREAMED,
        *[Ask(request(token, events=MIX_EVENTS, pause_ms=EVENT_PAUSE_MS), hangs_up=True)] * HUNG_UP,
        *[Ask(request(UNKNOWN_TOKEN))] * UNKNOWN,
        *[Ask(request(small))] * USED_UP,
    ]
    asks += [Ask(request(token))] * (100 - len(asks))
    random.Random(1).shuffle(asks)  # noqa: S311 - no secret
    return Job(contestant.port, asks, MIX_CONNECTIONS, statuses=frozenset({200, 401, 429}))
