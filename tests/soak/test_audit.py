"""5,000 random changes over the management API, whose process is killed (-9) again and again, against the audit.

Each committed change has one row: the rows alone, one after the other, lead to what the store holds in the end, and
each begins with what the one before has left. Nothing else has one: no answered fault, and no request has two.
"""

import functools
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.gateway.gateway import Gateway
from support.gateway.processes import wait_until
from support.stores.ledger import NOON

from store.clock import DAY, to_rfc3339

pytestmark = pytest.mark.soak("store/management", "store/database", "manage_api")

OPERATIONS = 5000
CLIENTS = 8
KILLS = 20
OF_THE_MOMENT = {"grace_seconds", "previous_expires_at", "tokens", "prices"}
"""Fields that are of one change alone, or end by themselves."""

type Fields = dict[str, Any]


class Client:
    """Changes projects, tokens, prices and administrators of its own, at random."""

    def __init__(self, gateway: Gateway, seed: int, count: Callable[[], bool]) -> None:
        self._gateway = gateway
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._name = f"client{seed}"
        self._count = count
        self.projects: list[str] = []
        self.tokens: list[str] = []
        self.prices: list[str] = []
        self.admins: list[str] = []
        self.changed: set[str] = set()
        self.refused: set[str] = set()
        self.lost = 0
        self._acts = [
            *(self._make_project, self._make_token, self._make_token, self._set_price, self._make_admin),
            *(self._patch_token,) * 5,
            *(self._patch_project,) * 3,
            *(self._rotate, self._revoke, self._revoke_all, self._delete_price, self._delete_admin),
            self._delete_project,
        ]

    def run(self) -> None:
        while self._count():
            try:
                self._random.choice(self._acts)()
            except httpx.TransportError:
                self.lost += 1
                wait_until(self._is_up)

    def _is_up(self) -> bool:
        try:
            return httpx.get(f"{self._gateway.manage_url}/health").is_success
        except httpx.TransportError:
            return False

    def _ask(self, method: str, path: str, body: object = None, *, changes: bool = False) -> Fields:
        """Send a request. With `changes` it has changed something where it succeeds."""
        answer = self._gateway.manage(method, path, body)
        if method == "DELETE" and answer.is_success:
            self._forget(path.rpartition("/")[2])
        request_id = answer.headers["X-LLM-Proxy-Request-Id"]
        assert answer.status_code < 500, answer.text
        if answer.is_error:
            self.refused.add(request_id)
            return {}
        if changes:
            self.changed.add(request_id)
        return answer.json() if answer.content else {}

    def _forget(self, object_id: str) -> None:
        for kind in (self.projects, self.prices, self.admins):
            if object_id in kind:
                kind.remove(object_id)

    def _make(self, kind: list[str], method: str, path: str, body: object, *, changes: bool = True) -> None:
        made = self._ask(method, path, body, changes=changes)
        if made and made["id"] not in kind:
            kind.append(made["id"])

    def _one(self, kind: list[str]) -> str:
        return self._random.choice(kind) if kind else "00000000-0000-0000-0000-000000000009"

    def _make_project(self) -> None:
        name = self._random.choice(["One", "Two", ""])  # the last is refused
        self._make(self.projects, "POST", "/manage/projects", {"name": name, "api_key": "sk-first"})

    def _make_token(self) -> None:
        self._make(self.tokens, "POST", "/manage/tokens", {"project_id": self._one(self.projects), "name": "Ann"})

    def _set_price(self) -> None:
        rates = {"input": self._random.randrange(3)}
        body = {"project_id": self._one(self.projects), "model": "m", "rates": rates}
        self._make(self.prices, "PUT", "/manage/prices", body, changes=False)

    def _make_admin(self) -> None:
        name = f"{self._name}.{self._random.randrange(5)}"
        self._make(self.admins, "POST", "/manage/admins", {"name": name, "role": "viewer"})

    def _patch_token(self) -> None:
        fields = {
            "max_requests": self._random.randrange(-1, 3),
            "is_active": self._random.random() < 0.7,
            "expires_at": to_rfc3339(NOON + self._random.randrange(3) * 1000 * DAY),
            "rate_limits": self._random.choice([None, [{"requests": 5, "per": "minute"}]]),
            "name": self._random.choice(["Ann", None]),
        }
        named = self._random.sample(sorted(fields), self._random.randrange(len(fields)))
        self._ask("PATCH", f"/manage/tokens/{self._one(self.tokens)}", {name: fields[name] for name in named})

    def _patch_project(self) -> None:
        bodies: list[Fields] = [{"name": "One"}, {"name": "Two"}, {"is_active": True}, {}, {"api_key": "sk-x"}]
        body = self._random.choice(bodies)
        path = f"/manage/projects/{self._one(self.projects)}"
        self._ask("PATCH", path, body, changes="api_key" in body)

    def _rotate(self) -> None:
        body = {"grace_seconds": self._random.choice([0, 60])}
        self._ask("POST", f"/manage/tokens/{self._one(self.tokens)}/rotate", body, changes=True)

    def _revoke(self) -> None:
        self._ask("DELETE", f"/manage/tokens/{self._one(self.tokens)}")

    def _revoke_all(self) -> None:
        self._ask("POST", f"/manage/projects/{self._one(self.projects)}/tokens/revoke")

    def _delete_price(self) -> None:
        self._ask("DELETE", f"/manage/prices/{self._one(self.prices)}", changes=True)

    def _delete_admin(self) -> None:
        self._ask("DELETE", f"/manage/admins/{self._one(self.admins)}", changes=True)

    def _delete_project(self) -> None:
        if len(self.projects) > 3:
            self._ask("DELETE", f"/manage/projects/{self._one(self.projects)}", changes=True)


def test_each_committed_change_has_one_row_and_nothing_else(tmp_path: Path, database_url: str) -> None:
    gateway = Gateway(tmp_path, "http://127.0.0.1:9", database_url=database_url, LOG_LEVEL="warning")
    number, lock = itertools.count(1), threading.Lock()
    reached: list[int] = [0]

    def count() -> bool:
        with lock:
            reached[0] = next(number)
        return reached[0] <= OPERATIONS

    def has_reached(limit: int) -> bool:
        return reached[0] >= limit

    try:
        gateway.start_management()
        clients = [Client(gateway, seed, count) for seed in range(CLIENTS)]
        threads = [threading.Thread(target=client.run) for client in clients]
        for thread in threads:
            thread.start()
        for kill in range(1, KILLS + 1):
            wait_until(functools.partial(has_reached, kill * OPERATIONS // (KILLS + 1)), 600)
            gateway.management.kill()
            gateway.start_management()
        for thread in threads:
            thread.join()
        check(gateway, clients)
    finally:
        gateway.stop()


def check(gateway: Gateway, clients: list[Client]) -> None:
    rows = [*all_rows(gateway)]
    of_requests = Counter(row["request_id"] for row in rows)
    changed = set.union(*(client.changed for client in clients))
    refused = set.union(*(client.refused for client in clients))
    lost = sum(client.lost for client in clients)
    print(f"{len(rows)} rows; {len(changed)} certain changes, {len(refused)} refused, {lost} without an answer")
    print(Counter(row["action"] for row in rows))
    assert lost
    assert set(of_requests.values()) == {1}
    assert changed <= of_requests.keys()
    assert not refused & of_requests.keys()
    assert {row["actor"] for row in rows} == {"root"}
    assert replayed(rows) == present(gateway)


def all_rows(gateway: Gateway) -> Iterator[Fields]:
    """Yield the rows of the audit, oldest first."""
    found: list[Fields] = []
    cursor = ""
    while True:
        page = gateway.manage("GET", f"/manage/audit?limit=1000{cursor}").raise_for_status().json()
        found += page["data"]
        if page["next_cursor"] is None:
            return reversed(found)
        cursor = f"&cursor={page['next_cursor']}"


def replayed(rows: list[Fields]) -> dict[str, Fields]:
    """Make all changes again, from the rows alone; each has to begin where the one before has ended."""
    objects: dict[str, Fields] = {}
    for row in rows:
        action, changes = row["action"], row["changes"]
        for object_id in row["ids"] if action == "project.tokens.revoke" else [row["object_id"]]:
            fields = objects.setdefault(object_id, {})
            for name, change in changes.items():
                if name not in OF_THE_MOMENT:
                    before, after = (("set" if value == "replaced" else value) for value in change.values())
                    assert fields.get(name) == before, (row, fields)
                    fields[name] = after
            if action.endswith("delete"):
                assert not any(fields.values()), (row, fields)
                del objects[object_id]
        if action == "project.delete":
            for object_id in row["ids"]:
                del objects[object_id]
    return {
        object_id: {name: value for name, value in fields.items() if value} for object_id, fields in objects.items()
    }


def present(gateway: Gateway) -> dict[str, Fields]:
    """Return what the store holds, in the form of `replayed`."""
    secret = {"projects": "api_key", "tokens": "token", "admins": "token"}
    names = {
        "name",
        "is_active",
        "max_requests",
        "expires_at",
        "rate_limits",
        "budgets",
        "model",
        "rates",
        "role",
    }
    found = {}
    for kind in ("projects", "tokens", "prices", "admins"):
        for each in gateway.manage("GET", f"/manage/{kind}").raise_for_status().json():
            if each["name" if "name" in each else "id"] != "root":
                shown = {name: value for name, value in each.items() if name in names and value}
                found[each["id"]] = {**shown, **({secret[kind]: "set"} if kind in secret else {})}
    return found
