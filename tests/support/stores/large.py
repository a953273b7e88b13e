"""A large store: many tokens, and a ledger of many requests with their sums, loaded rather than admitted."""

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence

from store import clock
from store.clock import DAY, HOUR, SECOND
from store.ids import new_request_id
from store.ledger.rollups import KEY
from store.management.projects import Projects
from store.store import Store
from support.stores.ledger import INSTANCE_ID
from support.stores.stores import API_KEY, foreign_connection, make_many_tokens

DAYS = 30
PROJECTS = 20
MODELS = ("gpt-4o-mini", "gpt-4o", "gpt-4.1", "gpt-4.1-mini", "o4-mini", "text-embedding-3-small")
_ENDPOINT = "/v1/chat/completions"
_SUMMED = ("request_bytes", "response_bytes", "input_tokens", "cached_input_tokens", "output_tokens", "cost")
_UNUSED = ("estimated", "unpriced", "reasoning_tokens", "input_audio_tokens", "output_audio_tokens")
_BATCH = 20_000


def fill(store: Store, tokens: int, requests: int) -> None:
    """Fill an empty store with projects that have so many tokens, and with so many requests of the last days."""
    projects = [Projects(store).create(f"Project {number:02}", API_KEY).id for number in range(PROJECTS)]
    made = [(one, token_id) for one in projects for token_id, _ in make_many_tokens(store, one, tokens // PROJECTS)]
    load_requests(store, _rows(made, requests, clock.now()))
    sum_up(store)


def load_requests(store: Store, rows: Iterator[Mapping[str, object]]) -> None:
    """Load rows of requests, all with the same columns."""
    for batch in itertools.batched(rows, _BATCH):
        with store.database.write():
            store.database.bulk.load("request", [*batch[0]], [tuple(row.values()) for row in batch])


def sum_up(store: Store) -> None:
    """Write the sums of all requests, whose usage was observed."""
    sums = ", ".join((*KEY, "requests", "observed", *_SUMMED, *_UNUSED))
    amounts = ", ".join((*(f"SUM(COALESCE({name}, 0))" for name in _SUMMED), *["0"] * len(_UNUSED)))
    with foreign_connection(store) as connection:  # it has no deadline
        for table, unit in (("hourly_usage", HOUR), ("daily_usage", DAY)):
            start = f"started_at / {unit} * {unit}"
            keys = f"{start}, project_id, token_id, model, endpoint"
            connection.execute(
                f"INSERT INTO {table} ({sums})"  # noqa: S608 - no data
                f" SELECT {keys}, COUNT(*), COUNT(*), {amounts} FROM request GROUP BY {keys}"
            )
        connection.execute("ANALYZE")


def _rows(tokens: Sequence[tuple[str, str]], number: int, now: int) -> Iterator[Mapping[str, object]]:
    """Make requests in the order of their times. Few tokens make most of them, as everywhere."""
    chance = random.Random(1)  # noqa: S311 - the same each time
    for index in range(number):
        at = now - DAYS * DAY + index * DAYS * DAY // number
        place = min(int(chance.expovariate(20 / len(tokens))), len(tokens) - 1)
        project_id, token_id = tokens[place * 7919 % len(tokens)]
        model = chance.choice(MODELS)
        yield {
            "id": new_request_id(),
            "instance_id": INSTANCE_ID,
            "started_at": at,
            "settled_at": at + SECOND,
            "project_id": project_id,
            "token_id": token_id,
            **dict.fromkeys(("path", "endpoint"), _ENDPOINT),
            "method": "POST",
            "usage_source": "observed",
            **dict.fromkeys(("model_asked", "model"), model),
            "status": 200,
            "streamed": True,
            "duration_ms": 900,
            "first_byte_ms": 200,
            "request_bytes": 1500,
            "response_bytes": 2500,
            "input_tokens": 800,
            "cached_input_tokens": 100,
            "output_tokens": 300,
            "cost": 43_500_000,
        }
