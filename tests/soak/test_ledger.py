"""10,000 requests of all kinds, with hang-ups and proxies killed in between: the ledger agrees with the upstream.

`./run.sh soak -s tests/soak/test_ledger.py` prints the figures.
"""

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.gateway.gateway import Gateway
from support.load.mixed_load import COLUMNS, MixedLoad, compare, rows_of
from support.upstreams.metered_upstream import MeteredUpstream

from store.ledger.instances import HEARTBEAT, LEASE

pytestmark = pytest.mark.soak("addon/metering", "addon/protocol", "store/admission", "store/ledger")

REQUESTS = 10_000
KILLS = 6
TOKENS = 8
CLIENTS = 24


def test_the_ledger_agrees_with_the_upstream(tmp_path: Path, database_url: str) -> None:
    with (
        MeteredUpstream() as upstream,
        Gateway.start(tmp_path, upstream.url, proxies=2, database_url=database_url, LOG_LEVEL="warning") as gateway,
    ):
        project = gateway.make_project()["id"]
        tokens = [gateway.make_token(project) for _ in range(TOKENS)]
        load = MixedLoad(lambda: [proxy.url for proxy in gateway.proxies[-2:]], tokens, clients=CLIENTS)
        killer = threading.Thread(target=_kill, args=(gateway, load))
        killer.start()
        load.run(REQUESTS)
        killer.join()
        rows = _settled(gateway)
        sources = compare(rows, upstream, load.sent)
        counted = {token["id"]: gateway.token(token["id"])["request_count"] for token in tokens}
        print(
            f"\n{REQUESTS} requests, {load.refused} of them without an answer when a proxy was killed ({KILLS} times); "
            f"the upstream answered {len(upstream.answered)}\nended, and equal to the upstream: {dict(sources)}\n"
            f"rows: {dict(Counter(row['usage_source'] for row in rows))}, counted {sum(counted.values())}"
        )
        assert sources["left"] <= KILLS * CLIENTS
        assert Counter(row["token_id"] for row in rows) == Counter(counted)
        assert len(upstream.answered) <= len(rows) <= len(upstream.answered) + load.refused
        for grouping in ("token", "day,model", "hour,endpoint", "project"):
            groups = gateway.manage("GET", f"/manage/usage?groupBy={grouping}").raise_for_status().json()["groups"]
            assert sum(group["requests"] for group in groups) == len(rows)
            for name in COLUMNS:
                assert sum(group[name] or 0 for group in groups) == sum(row[name] or 0 for row in rows)


def _kill(gateway: Gateway, load: MixedLoad) -> None:
    """Kill one of the two proxies after each part of the load, and start another in its place first."""
    for number in range(1, KILLS + 1):
        while load.done < REQUESTS * number // (KILLS + 1):
            time.sleep(0.01)
        victim = gateway.proxies[-2].process
        gateway.start_proxy()
        victim.kill()


def _settled(gateway: Gateway) -> list[dict[str, Any]]:
    """Return all rows once others have settled the open rows of the killed processes."""
    deadline = time.monotonic() + LEASE + 10 * HEARTBEAT
    while True:
        rows = [*rows_of(gateway)]
        if all(row["usage_source"] for row in rows):
            return rows
        assert time.monotonic() < deadline, Counter(row["usage_source"] for row in rows)
        time.sleep(1)
