"""The cost of listing many tokens, beside reading the same rows with bare sqlite3 and decrypting them, in one run.

    .venv/bin/python tests/benchmarks/listing.py

The management API is a process of its own, asked over HTTP; the bare reader decrypts each value and writes each row as
JSON, and does nothing else.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.gateway.gateway import Gateway
from support.stores.stores import foreign_connection, make_many_tokens, make_settings, opened

from store.store import Store


def bare(store: Store) -> int:
    """Read the rows, decrypt them and write them as JSON; return their number."""
    with foreign_connection(store) as connection:
        rows = connection.execute(
            "SELECT id, sealed_value, project_id, expires_at, is_active, request_count, max_requests, created_at,"
            " last_used_at FROM token ORDER BY created_at DESC, id"
        ).fetchall()
    values = [[row[0], store.vault.open_token(row[0], row[1]), *row[2:]] for row in rows]
    return len(json.loads(json.dumps(values)))


def listed(gateway: Gateway) -> int:
    """List them by the management API; return the number of tokens."""
    return len(gateway.manage("GET", "/manage/tokens").raise_for_status().json())


def seconds(read: Callable[[], int], expected: int) -> float:
    """Time one reading. Raises RuntimeError when it is not complete."""
    start = time.perf_counter()
    found = read()
    taken = time.perf_counter() - start
    if found != expected:
        raise RuntimeError(f"{found} of {expected} tokens")
    return taken


def compare(folder: Path, number: int, rounds: int) -> None:
    """Measure both in turn and print the medians."""
    gateway = Gateway(folder, "http://127.0.0.1:9", LOG_LEVEL="warning")
    try:
        gateway.start_management()
        with opened(make_settings(folder)) as store:
            make_many_tokens(store, gateway.make_project()["id"], number)
            pairs = [
                (seconds(lambda: listed(gateway), number), seconds(lambda: bare(store), number)) for _ in range(rounds)
            ]
    finally:
        gateway.stop()
    ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    print(f"{number} tokens: management API {ours:.3f} s, bare sqlite3 {theirs:.3f} s, ratio {ratio:.2f}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), arguments.tokens, arguments.rounds)


if __name__ == "__main__":
    main()
