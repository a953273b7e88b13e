"""A large store moves: 100,000 tokens and a ledger of 1,000,000 requests, and `kill -9` at any moment of it.

`./run.sh soak -s tests/soak/test_copying.py` prints the times.
"""

import itertools
import random
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.gateway.processes import Process, clean_environment, tool
from support.stores.ledger import NOON
from support.stores.postgresql import Server
from support.stores.stores import API_KEY, make_many_tokens, make_settings, opened

from store.database import open_database
from store.management.projects import Projects
from store.operations.copying.tables import TABLES
from store.runtime.settings import Settings
from store.store import Store

pytestmark = pytest.mark.soak("store/database", "store/operations")

TOKENS = 100_000
REQUESTS = 1_000_000
KILLED = 10
LONGEST = 30.0
"""Seconds after which a copy is killed at the latest: it has most rows then, and is not done."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings of a large store."""
    settings = make_settings(tmp_path_factory.mktemp("large"))
    with opened(settings) as store:
        project_id = Projects(store).create("Large", API_KEY).id
        tokens = [made[0] for _ in range(TOKENS // 10_000) for made in make_many_tokens(store, project_id, 10_000)]
        fill_ledger(store, project_id, tokens)
    return settings


def fill_ledger(store: Store, project_id: str, tokens: Sequence[str]) -> None:
    (table,) = (table for table in TABLES if table.name == "request")
    for numbers in itertools.batched(range(REQUESTS), 20_000):
        rows = [
            tuple(request(number, project_id, tokens).get(column) for column in table.columns) for number in numbers
        ]
        with store.database.write():
            store.database.bulk.load("request", table.columns, rows)


def request(number: int, project_id: str, tokens: Sequence[str]) -> dict[str, object]:
    started = NOON + number
    texts = dict.fromkeys(("path", "endpoint"), "/v1/chat/completions") | {"method": "POST", "usage_source": "observed"}
    numbers = dict.fromkeys(("duration_ms", "request_bytes", "response_bytes", "input_tokens", "output_tokens"), number)
    return {
        "id": str(uuid.UUID(int=number)),
        "instance_id": str(uuid.UUID(int=1)),
        "started_at": started,
        "settled_at": started + 1,
        "project_id": project_id,
        "token_id": tokens[number % len(tokens)],
        "upstream_request_id": f"req_{number:032x}",
        "model": "gpt-4o-2024-08-06",
        "status": 200,
        "streamed": True,
        "cost": 10**9 + number,
        **texts,
        **numbers,
    }


@pytest.fixture
def target_url(postgresql_server: Server) -> str:
    return postgresql_server.make_database()


def start(settings: Settings, url: str, log: Path) -> Process:
    env = clean_environment() | {"DATA_DIR": str(settings.data_dir), "TARGET_DATABASE_URL": url}
    return Process([tool("llm-proxy"), "copy"], env=env, log=log)


def counts(url: str) -> dict[str, int]:
    database = open_database(url, 60)
    with database.read():
        found = {table.name: database.execute(f"SELECT count(*) FROM {table.name}")[0][0] for table in TABLES}  # noqa: S608
    database.close()
    return found


def test_a_large_store_is_copied_and_a_killed_copy_changes_nothing(
    settings: Settings, target_url: str, tmp_path: Path
) -> None:
    whole = {"project": 1, "token": TOKENS, "secret": 2, "request": REQUESTS}
    for number in range(KILLED + 1):
        log = tmp_path / f"{number}.log"
        began = time.monotonic()
        process = start(settings, target_url, log)
        if number != KILLED // 2:
            time.sleep(random.uniform(2, LONGEST))  # noqa: S311 - a moment
            process.kill()
        else:
            assert process.wait(1000) == 0, process.output()
            print(process.output())
        print(f"copy {number}: {time.monotonic() - began:.1f} s")
        found = {name: rows for name, rows in counts(target_url).items() if rows}
        assert found == (whole if number >= KILLED // 2 else {})
