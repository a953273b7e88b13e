"""A load of all kinds of requests, and the comparison with the ledger: each request must have its row."""

import itertools
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import httpx

from support.gateway.gateway import Gateway, bearer
from support.upstreams.metered_upstream import PATHS, Answered, Kind, MeteredUpstream, body_of

KINDS: tuple[Kind, ...] = get_args(Kind.__value__)
COLUMNS = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")
CLOSE = 0.05
"""The largest relative error of an estimate."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A request whose response began: its ids. `ended`: all of the response came, or as much as was wanted."""

    kind: Kind
    request_id: str
    upstream_id: str
    ended: bool


class MixedLoad:
    """Clients in threads. Each sends requests of random kinds to one of the proxies that run at that time."""

    def __init__(self, urls: Callable[[], Sequence[str]], tokens: Sequence[dict[str, Any]], *, clients: int) -> None:
        self.sent: list[Sent] = []
        self.refused = 0
        """Requests that got no answer: their proxy was killed."""
        self._urls = urls
        self._numbers = itertools.count()
        self._until = 0
        self._tokens = tokens
        self._clients = clients
        self._chance = random.Random(1)  # noqa: S311
        self._lock = threading.Lock()

    def run(self, requests: int) -> None:
        """Send that many, and return when all have ended."""
        self._until = requests
        threads = [threading.Thread(target=self._use, args=(number,)) for number in range(self._clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @property
    def done(self) -> int:
        """The number of requests that have ended."""
        return len(self.sent) + self.refused

    def _use(self, number: int) -> None:
        token = self._tokens[number % len(self._tokens)]
        while True:
            urls = self._urls()
            with httpx.Client(base_url=urls[number % len(urls)], headers=bearer(token), timeout=60) as client:
                try:
                    while self._next():
                        self._send(client)
                except httpx.TransportError:
                    with self._lock:
                        self.refused += 1
                else:
                    return

    def _next(self) -> bool:
        with self._lock:
            return next(self._numbers) < self._until

    def _send(self, client: httpx.Client) -> None:
        kind, number = self._chance.choice(KINDS), self._chance.randrange(20, 200)
        body = body_of(kind)
        request = client.build_request(
            "GET" if body is None else "POST", PATHS[kind], json=body, headers={"X-Case": f"{kind} {number}"}
        )
        response = client.send(request, stream=True)
        sent = Sent(kind, response.headers["x-llm-proxy-request-id"], response.headers["x-request-id"], ended=False)
        try:
            _read(kind, number, response)
            sent = Sent(kind, sent.request_id, sent.upstream_id, ended=True)
        finally:
            response.close()
            with self._lock:
                self.sent.append(sent)


def _read(kind: Kind, number: int, response: httpx.Response) -> None:
    """Read a response to its end; of one that never ends read all that has come, and hang up."""
    if kind != "chat-cut":
        response.read()
        return
    events = 0
    for line in response.iter_lines():
        events += line.startswith("data: ")
        if events == number + 1:
            return
    raise httpx.ReadError("cut")


def rows_of(gateway: Gateway) -> Iterator[dict[str, Any]]:
    """Read the whole ledger, page by page."""
    cursor = None
    while True:
        query = f"?limit=1000&format=jsonl{f'&cursor={cursor}' if cursor else ''}"
        page = gateway.manage("GET", f"/manage/requests{query}").raise_for_status()
        yield from map(json.loads, page.text.splitlines())
        cursor = page.headers.get("x-llm-proxy-next-cursor")
        if not cursor:
            return


def compare(rows: Sequence[dict[str, Any]], upstream: MeteredUpstream, sent: Sequence[Sent]) -> Counter[str]:
    """Compare each request that ended with the upstream's record. Returns the number of each source.

    `left` are those that ended, but whose proxy was killed before it had written that: other processes settled them.
    """
    by_id = {row["id"]: row for row in rows}
    assert len(by_id) == len(rows)
    sources: Counter[str] = Counter()
    for one in sent:
        if not one.ended:
            continue
        row = by_id[one.request_id]
        if row["duration_ms"] is None:
            assert (row["usage_source"], row["status"], row["cost_usd"]) == ("unknown", None, None), row
            sources["left"] += 1
            continue
        if one.kind == "reset":
            assert (row["status"], row["usage_source"], row["cost_usd"]) == (503, "unknown", None), row
        else:
            assert row["upstream_request_id"] == one.upstream_id
            _compare(row, one.kind, upstream.answered[one.upstream_id])
        sources[row["usage_source"]] += 1
    return sources


def _compare(row: dict[str, Any], kind: Kind, truth: Answered) -> None:
    counted = [row[name] for name in COLUMNS]
    expected = [getattr(truth, name) for name in COLUMNS]
    assert row["status"] == (429 if kind == "error" else 200)
    if kind in {"error", "models"}:
        assert (row["usage_source"], counted, row["cost_usd"]) == ("unknown", [None] * 4, None), row
    elif kind in {"chat-silent", "chat-cut"}:
        assert row["usage_source"] == "estimated", row
        for name in ("input_tokens", "output_tokens"):
            assert abs(row[name] - getattr(truth, name)) <= CLOSE * getattr(truth, name), (row, truth)
        assert row["cost_usd"] is not None
    else:
        assert (row["usage_source"], counted) == ("observed", expected), (row, truth)
        assert row["cost_usd"] is not None
