"""All changes of a store, at once and on the same rows: no two wait for each other, none fails, and no count is lost.

`./run.sh soak -s tests/soak/test_no_deadlock.py` prints the outcomes.
"""

import re
from pathlib import Path

import pytest
from support.stores import crowd
from support.stores.postgresql import QUICK, Server
from support.stores.stores import make_settings, opened

pytestmark = pytest.mark.soak("store")

SECONDS = 60
RING = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=,MTEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

COUNTS = "SELECT id, request_count FROM token WHERE request_count <> 0 ORDER BY id"
ROWS = "SELECT token_id, COUNT(*) FROM request WHERE instance_id <> ? GROUP BY token_id ORDER BY token_id"


def test_no_two_transactions_wait_for_each_other(tmp_path: Path) -> None:
    with Server.running(*QUICK, "-c", "deadlock_timeout=50ms", "-c", "log_lock_waits=on") as server:
        settings = make_settings(
            tmp_path, database_url=server.make_database(), encryption_key=RING, store_timeout=10, log_level="error"
        )
        with opened(settings) as store:
            rows = crowd.make_rows(store)
            acts = crowd.run(settings, rows, SECONDS)
            for name, seen in acts.items():
                print(f"{name}: {dict(seen)}")
            counts = store.database.execute(COUNTS)
            assert counts == store.database.execute(ROWS, [crowd.GONE])
            assert not store.database.execute("SELECT id FROM request WHERE settled_at IS NULL")
        log = (server.folder / "log").read_text()
        print(f"waits of more than 50 ms: {log.count('still waiting for')}")
        assert not _deadlocks(log), "\n".join(_deadlocks(log))
        assert not [(name, what) for name, seen in acts.items() for what in seen if what.startswith("fault")]


def _deadlocks(log: str) -> list[str]:
    """Return the deadlocks in a server's log, with all their statements."""
    return re.findall(r"ERROR:  deadlock detected.*?STATEMENT:[^\n]*(?:\n\t[^\n]*)*", log, re.DOTALL)
