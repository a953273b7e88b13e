"""The latency of the page `/tokens` of a store with 100,000 tokens, over HTTP, on SQLite and PostgreSQL.

    .venv/bin/python tests/benchmarks/token_pages.py

The pages are asked for in turn: each filter, each order, and pages far back. `--tokens` makes fewer tokens.
"""

import argparse
import contextlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.gateway.gateway import MANAGEMENT_TOKEN, Gateway
from support.stores.postgresql import Server
from support.stores.stores import make_many_tokens

from store.clock import DAY
from store.encryption.crypto import new_key
from store.store import Store

PROJECTS = 20
BATCH = 200

PAGES: Mapping[str, str] = {
    "first": "",
    "far back": "?page={last}",
    "by name": "?sort=name",
    "by expiry": "?sort=expires",
    "by last use": "?sort=used",
    "by requests": "?sort=requests",
    "search, few": "?q=a%20name%20that%20none%20has",
    "search, all": "?q=application",
    "search, by requests": "?q=app&sort=requests&order=desc",
    "of a project": "?project_id={project}",
    "revoked": "?state=revoked",
    "working": "?state=working&sort=used",
    "expiring": "?state=expiring",
    "one token": "/{token}",
    "to be revoked": "/revoke?id={token}",
}
"""Each page, after `/tokens`."""


def fill(store: Store, projects: list[str], number: int) -> str:
    """Make tokens of all kinds; return the public id of one."""
    chance = random.Random(1)  # noqa: S311 - no secrets
    ids = [
        token_id
        for project_id in projects
        for token_id, _ in make_many_tokens(store, project_id, number // len(projects))
    ]
    now = store.database.now()
    for start in range(0, len(ids), BATCH):
        with store.database.write():
            for place, token_id in enumerate(ids[start : start + BATCH], start):
                store.database.run(
                    "UPDATE token SET token_name = ?, is_active = ?, expires_at = ?, last_used_at = ?,"
                    " request_count = ? WHERE id = ?",
                    [
                        f"application {place}",
                        chance.random() < 0.9,
                        now + chance.randrange(-10, 90) * DAY,
                        now - chance.randrange(30 * DAY),
                        chance.randrange(10**6),
                        token_id,
                    ],
                )
    return ids[-1]


def measure(gateway: Gateway, number: int, rounds: int) -> dict[str, list[float]]:
    """Ask for all pages in turn; return the seconds that each took."""
    projects = [str(gateway.make_project()["id"]) for _ in range(PROJECTS)]
    with gateway.store() as store:
        token_id = fill(store, projects, number)
    about = {"last": number // 50, "project": projects[0], "token": token_id}
    taken: dict[str, list[float]] = {name: [] for name in PAGES}
    with httpx.Client(base_url=gateway.manage_url, timeout=60) as client:
        answer = client.post("/login", data={"token": MANAGEMENT_TOKEN}, headers={"Origin": gateway.manage_url})
        if answer.status_code != httpx.codes.SEE_OTHER:
            raise RuntimeError(f"the login was answered with {answer.status_code}")
        for _ in range(rounds):
            for name, path in PAGES.items():
                began = time.perf_counter()
                client.get(f"/tokens{path.format(**about)}").raise_for_status()
                taken[name].append(time.perf_counter() - began)
    return taken


@contextlib.contextmanager
def database(engine: str) -> Iterator[Mapping[str, str]]:
    """Return the settings of a new database of an engine."""
    if engine == "sqlite":
        yield {}
        return
    with Server.running() as server:
        yield {"DATABASE_URL": server.make_database(), "ENCRYPTION_KEY": new_key()}


def report(engine: str, taken: Mapping[str, list[float]]) -> None:
    """Print the median and the 99th percentile of each page and of all."""
    together = [one for times in taken.values() for one in times]
    for name, times in {**taken, "all": together}.items():
        p99 = statistics.quantiles(times, n=100)[98]
        print(f"{engine}, {name}: p50 {statistics.median(times) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms", flush=True)


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    for engine in ("sqlite", "postgresql"):
        with tempfile.TemporaryDirectory() as folder, database(engine) as settings:
            gateway = Gateway(Path(folder), "http://127.0.0.1:9", LOG_LEVEL="warning", STORE_TIMEOUT="30", **settings)
            try:
                gateway.start_management()
                report(engine, measure(gateway, arguments.tokens, arguments.rounds))
            finally:
                gateway.stop()


if __name__ == "__main__":
    main()
