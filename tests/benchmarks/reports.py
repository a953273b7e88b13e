"""The cost of reports and lists of requests on a ledger of a million rows.

    .venv/bin/python tests/benchmarks/reports.py

30 days, 200 tokens of 20 projects, 6 models, 4 endpoints. `--folder` keeps the store for another run, `--plan` shows
how SQLite reads it.
"""

import argparse
import contextlib
import random
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.stores.ledger import NOON
from support.stores.stores import foreign_connection, make_settings, opened

from store.clock import DAY, HOUR, SECOND
from store.errors import InvalidRequest
from store.ledger.rollups import KEY
from store.ledger.usage import COLUMNS
from store.reports import usage_report
from store.reports.request_list import OPEN, RequestFilter, RequestList
from store.reports.usage_query import Dimension, UsageFilter
from store.reports.usage_report import UsageReports
from store.store import Store

DAYS = 30
BEGINNING = NOON - 12 * HOUR
TOKENS, PROJECTS = 200, 20
MODELS = ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "o4-mini", "text-embedding-3-small"]
ENDPOINTS = ["/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/models"]
TOKEN = str(uuid.UUID(int=7))
PROJECT = str(uuid.UUID(int=7 % PROJECTS))

_COUNTS = ("requests", "observed", "estimated", "unpriced")
_SUMS = ("request_bytes", "response_bytes", *COLUMNS, "cost")
_WRITTEN = (
    *("id", "instance_id", "started_at", "project_id", "token_id", "method", "path", "endpoint", "settled_at"),
    *("usage_source", "upstream_request_id", "model_asked", "model", "status", "streamed", "duration_ms"),
    *("first_byte_ms", "request_bytes", "response_bytes", "input_tokens", "cached_input_tokens", "output_tokens"),
    *("reasoning_tokens", "input_audio_tokens", "output_audio_tokens", "cost", "price"),
)
"""The columns of `rows`."""

_KEY = "project_id, token_id, COALESCE(model, ''), endpoint"


def rows(number: int) -> Iterator[tuple[object, ...]]:
    """Make requests in the order of their times; the last hundred are running."""
    generator = random.Random(1)  # noqa: S311 - the same rows each time
    for index in range(number):
        started_at = BEGINNING + index * DAYS * DAY // number
        token = min(int(generator.expovariate(0.02)), TOKENS - 1)
        source = generator.choices(["observed", "estimated", "unknown"], [90, 8, 2])[0]
        begun = (
            str(uuid.UUID(int=started_at // 1000 << 80 | generator.getrandbits(80))),
            str(uuid.UUID(int=1)),
            started_at,
            str(uuid.UUID(int=token % PROJECTS)),
            str(uuid.UUID(int=token)),
            "POST",
            "/v1/chat/completions",
            generator.choice(ENDPOINTS),
        )
        model = generator.choice(MODELS)
        ended = (
            *(started_at + SECOND, source, f"req_{index:032x}", model, model, 200 if index % 100 else 429, index % 2),
            *(
                900,
                200,
                1500,
                2500,
                800,
                100,
                300,
                0,
                None,
                None,
                43_500_000,
                '{"source": "built-in", "input": "0.15"}',
            ),
        )
        yield begun + (ended if index < number - 100 else (None,) * len(ended))


def build(store: Store, number: int) -> None:
    """Fill an empty store: the rows, and the sums from them."""
    with foreign_connection(store) as connection:
        assert isinstance(connection, sqlite3.Connection)
        connection.execute("BEGIN")
        places = ", ".join("?" * len(_WRITTEN))
        connection.executemany(f"INSERT INTO request ({', '.join(_WRITTEN)}) VALUES ({places})", rows(number))  # noqa: S608
        for table, unit in (("hourly_usage", HOUR), ("daily_usage", DAY)):
            connection.execute(
                f"INSERT INTO {table} ({', '.join((*KEY, *_COUNTS, *_SUMS))})"  # noqa: S608 - no data
                f" SELECT started_at / {unit} * {unit} AS start, {_KEY}, COUNT(*),"
                " SUM(usage_source = 'observed'), SUM(usage_source = 'estimated'),"
                " SUM(usage_source <> 'unknown' AND cost IS NULL),"
                f" {', '.join(f'SUM(COALESCE({name}, 0))' for name in _SUMS)} FROM request"
                f" WHERE settled_at IS NOT NULL GROUP BY start, {_KEY}"
            )
        connection.execute("COMMIT")


def best(read: Callable[[], object], rounds: int) -> float:
    """Return the shortest time in milliseconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        read()
        times.append(time.perf_counter() - start)
    return min(times) * 1000


ODD = 3 * HOUR + 1_234_567_891
FILTERS = {
    "all time": UsageFilter(),
    "ten days": UsageFilter(BEGINNING + 10 * DAY, BEGINNING + 20 * DAY),
    "odd edges": UsageFilter(BEGINNING + ODD, BEGINNING + 29 * DAY + ODD),
    "within a day": UsageFilter(BEGINNING + 9 * DAY + ODD, BEGINNING + 9 * DAY + 2 * ODD),
    "token": UsageFilter(token_id=TOKEN),
    "project": UsageFilter(project_id=PROJECT),
    "model": UsageFilter(model=MODELS[0]),
    "endpoint": UsageFilter(endpoint=ENDPOINTS[0]),
}
GROUPINGS = ["", "project", "token", "model", "endpoint", "day", "project,model", "project,token,model,endpoint"]
GROUPINGS += ["day,model", "day,token", "hour", "hour,project", "hour,token"]
GROUPINGS += ["day@Europe/Berlin", "day,token@Europe/Berlin", "month@Europe/Berlin", "day@Asia/Kolkata"]

LISTS = {
    "newest": RequestFilter(),
    "token": RequestFilter(token_id=TOKEN),
    "project": RequestFilter(project_id=PROJECT),
    "model": RequestFilter(model=MODELS[0]),
    "no such model": RequestFilter(model="none"),
    "endpoint": RequestFilter(endpoint=ENDPOINTS[0]),
    "no such endpoint": RequestFilter(endpoint="none"),
    "status 429": RequestFilter(status=429),
    "no such status": RequestFilter(status=599),
    "unknown": RequestFilter(source="unknown"),
    "open": RequestFilter(source=OPEN),
    "open of a token": RequestFilter(source=OPEN, token_id=TOKEN),
    "first days": RequestFilter(end=BEGINNING + DAY),
}


def show_reports(store: Store, rounds: int) -> None:
    """Print one line a grouping, one column a filter, in milliseconds."""
    reports = UsageReports(store)
    print(f"{'milliseconds':30}" + "".join(f"{name:>13}" for name in FILTERS))
    for grouping in GROUPINGS:
        names, _, zone_name = grouping.partition("@")
        by = [Dimension(name) for name in names.split(",") if name]
        zone = ZoneInfo(zone_name) if zone_name else None
        line = []
        for about in FILTERS.values():
            try:
                line.append(f"{best(partial(reports.report, by, about, zone), rounds):13.1f}")
            except InvalidRequest:
                line.append(f"{'refused':>13}")
        print(f"{grouping or 'totals':30}{''.join(line)}", flush=True)


def show_lists(store: Store, rounds: int) -> None:
    """Print one line a filter: a first page of 100, one of 1000, and the page in the middle of all."""
    requests = RequestList(store)
    print(f"\n{'milliseconds':30}{'100 rows':>13}{'1000 rows':>13}{'from the middle':>17}")
    for name, about in LISTS.items():
        middle = replace(about, end=min(about.end or BEGINNING + 15 * DAY, BEGINNING + 15 * DAY))
        times = [
            best(lambda about=about, limit=limit: requests.page(about, limit=limit), rounds)  # type: ignore[misc]
            for about, limit in ((about, 100), (about, 1000), (middle, 100))
        ]
        print(f"{name:30}{times[0]:13.1f}{times[1]:13.1f}{times[2]:17.1f}", flush=True)


def show_plans(store: Store) -> None:
    """Print how SQLite reads: each statement with its plan."""
    execute = store.database.execute

    def explained(sql: str, parameters: list[object]) -> list[tuple[object, ...]]:
        print(sql[:60], "...")
        for row in execute(f"EXPLAIN QUERY PLAN {sql}", parameters):
            print("   ", row[3])
        return execute(sql, parameters)

    store.database.execute = explained  # type: ignore[method-assign, assignment]
    for name, report in FILTERS.items():
        print(f"--- {name}")
        UsageReports(store).report([Dimension.MODEL], report)
    print("--- day in Europe/Berlin")
    UsageReports(store).report([Dimension.DAY], FILTERS["ten days"], ZoneInfo("Europe/Berlin"))
    print("--- hour, token")
    UsageReports(store).report([Dimension.HOUR], FILTERS["token"])
    for name, listed in LISTS.items():
        print(f"--- list {name}")
        RequestList(store).page(listed)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--plan", action="store_true")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = stack.enter_context(opened(make_settings(folder)))
        if not store.database.execute("SELECT id FROM request LIMIT 1", ()):
            build(store, arguments.rows)
        if arguments.plan:
            show_plans(store)
            return
        print(f"{usage_report.MAX_GROUPS} groups at most")
        show_reports(store, arguments.rounds)
        show_lists(store, arguments.rounds)


if __name__ == "__main__":
    main()
