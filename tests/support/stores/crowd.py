"""Processes that do everything that changes a store, at once and on the same rows."""

import asyncio
import functools
import multiprocessing
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from typing import Any, NamedTuple

from store import clock
from store.admission.admission import Admission
from store.errors import GatewayError, StoreUnavailable
from store.ledger import instances, retention
from store.ledger.ledger import Ledger, Settlement
from store.ledger.usage import Consumption, Metered, Source
from store.management import bulk
from store.management.prices import OwnPrices
from store.management.projects import Projects
from store.management.tokens import Tokens
from store.operations.rotation import Rotation
from store.request import Opened
from store.runtime.settings import Settings
from store.store import Store
from support.stores.stores import API_KEY, make_many_tokens, opened, opening

CLIENTS = 16
"""Of each process that admits."""

TOKENS = 60
"""Of each of the projects."""

KEPT_DAYS = 5
"""Older rows are deleted all the time."""

AGE = 2 * KEPT_DAYS * clock.DAY

GONE = "00000000-0000-4000-8000-00000000dead"
RATES = {"input": Decimal(1)}


class Rows(NamedTuple):
    """The rows that all processes use: projects, and the ids and values of their tokens."""

    projects: Sequence[str]
    tokens: Sequence[tuple[str, str]]

    def project(self) -> str:
        return random.choice(self.projects)  # noqa: S311 - no secret

    def token(self) -> tuple[str, str]:
        return random.choice(self.tokens)  # noqa: S311


def make_rows(store: Store) -> Rows:
    projects = [Projects(store).create("Kept", API_KEY).id for _ in range(2)]
    return Rows(projects, [token for project_id in projects for token in make_many_tokens(store, project_id, TOKENS)])


def admit(store: Store, rows: Rows, seconds: float) -> Counter[str]:
    """Act as a node: admit requests of all tokens; settle most, and compensate some."""
    admission, seen, until = Admission(store), Counter[str](), time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < until:
            try:
                admitted = await admission.admit(rows.token()[1], opening())
            except GatewayError as error:
                seen[_fault(error)] += 1
                await asyncio.sleep(0)
                continue
            seen["done"] += 1
            if random.random() < 0.05:  # noqa: S311
                await admission.check()
            if random.random() < 0.9:  # noqa: S311
                used = (Consumption("gpt-4o", {"input_tokens": 1}),)
                admission.settle(Settlement(admitted.opened, metered=Metered(Source.OBSERVED, used)))
            else:
                admission._writer._compensation.add([admitted])  # noqa: SLF001 - as it does where a COMMIT is in doubt

    async def clients() -> None:
        await asyncio.gather(*(client() for _ in range(CLIENTS)))

    asyncio.run(clients())
    admission.close()
    return seen


def _again(act: Callable[[Store, Rows], object], store: Store, rows: Rows, seconds: float) -> Counter[str]:
    """Repeat a step; count its outcomes."""
    seen, until = Counter[str](), time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            act(store, rows)
            seen["done"] += 1
        except GatewayError as error:
            seen[_fault(error)] += 1
    return seen


def _fault(error: GatewayError) -> str:
    """Tell refusals, which are expected, from faults."""
    return f"fault: {error!r} {error.__cause__}" if isinstance(error, StoreUnavailable) else "refused"


def revoke_all(store: Store, rows: Rows) -> None:
    Tokens(store).revoke_all(rows.project())
    time.sleep(0.5)  # in which some are brought back


def bring_back(store: Store, rows: Rows) -> None:
    Tokens(store).update(rows.token()[0], {"is_active": True})


def switch(store: Store, rows: Rows) -> None:
    project_id = rows.project()
    Projects(store).update(project_id, {"is_active": False})
    Projects(store).update(project_id, {"is_active": True, "api_key": API_KEY})


def limit(store: Store, rows: Rows) -> None:
    """Set, change and remove limits of tokens and projects; those of windows are never reached."""
    windows: Any = random.choice((None, [{"requests": 10**9, "per": "day"}]))  # noqa: S311 - no secret
    most = random.choice((None, 10, 10**6))  # noqa: S311
    Tokens(store).update(rows.token()[0], {"rate_limits": windows})
    Tokens(store).update(rows.token()[0], {"max_parallel_requests": most})
    Projects(store).update(rows.project(), {"rate_limits": windows})
    Projects(store).update(rows.project(), {"max_parallel_requests": most})


def come_and_go(store: Store, rows: Rows) -> None:
    """Make a project with tokens and a price, and one more token of another; delete the project."""
    project_id = Projects(store).create("Short-lived", API_KEY).id
    make_many_tokens(store, project_id, 3 * bulk.BATCH)
    OwnPrices(store).set(RATES, project_id=project_id)
    OwnPrices(store).set(RATES, model="gpt-4o")
    Projects(store).delete(project_id)
    Tokens(store).create(rows.project())


def rotate(store: Store, _: Rows) -> None:
    for _batch in Rotation(store).batches():
        pass


def leave(store: Store, rows: Rows) -> None:
    """Add requests of a dead process, recent and old, and settle them, as all other processes do."""
    with store.database.write():
        now = store.database.now()
        opened_rows = []
        for request in (opening() for _ in range(50)):
            began = random.choice((now, now - AGE))  # noqa: S311
            row = Opened(request.request_id, began, rows.project(), rows.token()[0], request.endpoint)
            opened_rows.append((request, row))
        Ledger(store.database).open(GONE, opened_rows)
    instances.settle_left(store.database, Ledger(store.database), GONE)


def clean(store: Store, _: Rows) -> None:
    """Delete old rows, as every process does."""
    retention.clean(store.database, KEPT_DAYS, threading.Event())
    store.database.check()


ACTS: Mapping[str, Callable[[Store, Rows, float], Counter[str]]] = {
    "admit": admit,
    "admit too": admit,
    "admit as well": admit,
    **{
        act.__name__: functools.partial(_again, act)
        for act in (revoke_all, bring_back, switch, limit, come_and_go, rotate, leave, clean)
    },
    "leave too": functools.partial(_again, leave),
    "leave as well": functools.partial(_again, leave),
    "clean too": functools.partial(_again, clean),
    "revoke_all too": functools.partial(_again, revoke_all),
}


def _act(name: str, settings: Settings, rows: Rows, seconds: float) -> Counter[str]:
    bulk.BATCH = 20
    retention.PAUSE = 0.001
    if name == "rotate":
        first, second = ((settings.encryption_key and settings.encryption_key.get_secret_value()) or "").split(",")
        turned = Settings(**{**settings.model_dump(), "encryption_key": f"{second},{first}"})
        until, seen = time.monotonic() + seconds, Counter[str]()
        while time.monotonic() < until:
            for ring in (turned, settings):
                with opened(ring) as store:
                    seen += ACTS[name](store, rows, 0.1)
        return seen
    with opened(settings) as store:
        return ACTS[name](store, rows, seconds)


def run(settings: Settings, rows: Rows, seconds: float) -> dict[str, Counter[str]]:
    """Run all at once, each in a process of its own; return their outcomes."""
    with ProcessPoolExecutor(len(ACTS), mp_context=multiprocessing.get_context("spawn")) as pool:
        acting = {name: pool.submit(_act, name, settings, rows, seconds) for name in ACTS}
        return {name: future.result() for name, future in acting.items()}
