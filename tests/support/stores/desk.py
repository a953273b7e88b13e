"""A store after a month in use: teams with their tokens, what these used and were refused, and the administrators.

It is the same each time, but for ids and the time of now. Pages are shown on it, and pictures of them are made.
"""

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from store import clock
from store.clock import DAY, HOUR, MINUTE, SECOND
from store.ids import new_request_id
from store.ledger.ledger import Ledger, Outcome, Settlement
from store.ledger.usage import COST_UNIT, Consumption, Metered, Source
from store.management import audit
from store.management.admins import Admins, Role
from store.management.audit import Origin
from store.management.prices import OwnPrices
from store.management.projects import Projects
from store.management.tokens import TokenRecord, Tokens
from store.request import Opened, Opening
from store.store import Store
from support.stores.ledger import INSTANCE_ID, refuse_request
from support.stores.stores import API_KEY, set_columns

DAYS = 30
_OFFICE = "203.0.113.24"
_BATCH = 200
_CHAT, _RESPONSES, _EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"


class Application(NamedTuple):
    """An application with a token of its own, and how it asks: so often on a working day."""

    name: str
    a_day: int
    models: Sequence[str]
    endpoint: str = _CHAT
    input_tokens: int = 4_000
    output_tokens: int = 600
    address: str = "10.20.0.11"
    expires_in: int = 300 * DAY


TEAMS: Mapping[str, Sequence[Application]] = {
    "Support assistant": [
        Application("support-web, production", 70, ["gpt-4.1-mini", "gpt-4.1-mini", "gpt-4.1"], address="10.20.0.11"),
        Application("support-web, staging", 6, ["gpt-4.1-mini"], address="10.20.0.12", expires_in=3 * DAY + 5 * HOUR),
        Application("macro editor", 9, ["gpt-4.1"], _RESPONSES, 2_500, 900, "10.20.3.40"),
    ],
    "Search": [
        Application("indexer", 60, ["text-embedding-3-small"], _EMBEDDINGS, 7_500, 0, "10.30.1.5", clock.NEVER),
        Application("query rewriting", 45, ["gpt-4.1-nano"], _CHAT, 700, 60, "10.30.1.6", 26 * HOUR),
    ],
    "Data team": [
        Application("Ada's notebooks", 12, ["o4-mini", "gpt-4.1"], _RESPONSES, 9_000, 2_400, _OFFICE, 12 * DAY),
        Application("nightly evaluation", 25, ["gpt-4o", "o4-mini"], _CHAT, 3_000, 1_100, "10.40.7.2", clock.NEVER),
        Application("editor of Grace", 16, ["gpt-4.1"], _CHAT, 11_000, 700, _OFFICE, 6 * DAY),
    ],
    "Mobile app": [
        Application("iOS", 38, ["gpt-4o-mini"], _CHAT, 1_300, 250, "198.51.100.7"),
        Application("Android", 44, ["gpt-4o-mini"], _CHAT, 1_300, 250, "198.51.100.8"),
    ],
}


class Desk(NamedTuple):
    """The filled store: ids of projects and tokens by their names, and the tokens of two more administrators."""

    projects: Mapping[str, str]
    tokens: Mapping[str, str]
    admin_token: str
    viewer_token: str


def fill(store: Store, api_key: str = API_KEY) -> Desk:
    """Fill an empty store with a month until now; all projects have the same upstream key."""
    now, chance = store.database.now(), random.Random(1)  # noqa: S311 - the same each time
    audit.begin(Origin("ada", _OFFICE))
    try:
        _, admin_token = Admins(store).create("ada", Role.ADMIN)
        _, viewer_token = Admins(store).create("grace", Role.VIEWER)
        Admins(store).disable(Admins(store).create("alan", Role.ADMIN)[0].id)
        projects = {name: Projects(store).create(name, api_key).id for name in TEAMS}
        tokens = {each.name: _token(store, projects[team], each, now) for team, each in _applications()}
        OwnPrices(store).set({"input": Decimal("1.60"), "output": Decimal("6.40")}, model="gpt-4.1")
        ids = {name: token.id for name, token in tokens.items()}
        _use(store, _requests(projects, ids, now, chance))
        _refuse(store, projects, ids, now)
        _limit(store, projects, ids)
        _end_some(store, projects, ids)
        _date_back(store, now)
    finally:
        audit.begin(audit.UNKNOWN)
    return Desk(projects, ids, admin_token, viewer_token)


def _applications() -> Iterator[tuple[str, Application]]:
    for team, applications in TEAMS.items():
        for application in applications:
            yield team, application


def _token(store: Store, project_id: str, application: Application, now: int) -> TokenRecord:
    expires_at = min(now + application.expires_in, clock.NEVER)
    return Tokens(store).create(project_id, expires_at=expires_at, name=application.name)


def _requests(
    projects: Mapping[str, str], tokens: Mapping[str, str], now: int, chance: random.Random
) -> Iterator[tuple[Opening, Opened, Settlement]]:
    """Make the requests of the days before now: fewer at weekends, a little more each week."""
    midnight = now // DAY * DAY
    for back, (team, application) in itertools.product(range(DAYS, -1, -1), _applications()):
        day = midnight - back * DAY
        is_weekend = (day // DAY + 3) % 7 > 4  # the first day of 1970 was a Thursday
        number = round(application.a_day * (0.25 if is_weekend else 1) * (1 - back / 100) * chance.uniform(0.75, 1.25))
        for _ in range(number):
            at = day + round(min(max(chance.gauss(13.5, 3.5), 0), 23.9) * HOUR)
            if at < now - MINUTE:
                ids = (projects[team], tokens[application.name])
                yield _request(Opened(new_request_id(), at, *ids, application.endpoint), application, chance)


def _request(opened: Opened, application: Application, chance: random.Random) -> tuple[Opening, Opened, Settlement]:
    endpoint, model = application.endpoint, chance.choice(application.models)
    opening = Opening(opened.request_id, "POST", endpoint, endpoint, None, client=application.address)
    duration = round(chance.lognormvariate(6.8, 0.6)) + application.output_tokens
    upstream_id = f"req_{chance.getrandbits(128):032x}"
    outcome = Outcome(200, endpoint == _CHAT, duration, round(duration * 0.4), 5_000, 3_000, upstream_id)
    kind = chance.random()
    if kind < 0.01:
        failed = outcome._replace(status=429, streamed=False, may_cost=False)
        return opening, opened, Settlement(opened, failed, Metered(model_asked=model))
    used = {"input_tokens": round(application.input_tokens * chance.lognormvariate(0, 0.5))}
    if application.output_tokens:
        used["output_tokens"] = round(application.output_tokens * chance.lognormvariate(0, 0.6))
        used["cache_read_tokens"] = used["input_tokens"] // 3
    source = Source.ESTIMATED if kind < 0.04 else Source.OBSERVED
    metered = Metered(source, (Consumption(model, used),), model, model)
    return opening, opened, Settlement(opened, outcome, metered)


def _use(store: Store, requests: Iterable[tuple[Opening, Opened, Settlement]]) -> None:
    """Write requests as processes do that admit and settle them."""
    ledger = Ledger(store.database)
    for batch in itertools.batched(requests, _BATCH):
        with store.database.write():
            ledger.open(INSTANCE_ID, [(opening, opened) for opening, opened, _ in batch])
            ledger.settle([settlement for *_, settlement in batch])


def _refuse(store: Store, projects: Mapping[str, str], tokens: Mapping[str, str], now: int) -> None:
    """Write refusals of several kinds, and one request whose upstream key was rejected."""
    kinds = [
        ("Mobile app", "Android", 429, "rate_limit_exceeded", "198.51.100.8"),
        ("Data team", "nightly evaluation", 403, "model_not_allowed", "10.40.7.2"),
        ("Support assistant", "support-web, staging", 429, "insufficient_quota", "10.20.0.12"),
        ("Search", "indexer", 403, "ip_not_allowed", "192.0.2.99"),
    ]
    for day, (place, (team, name, status, code, client)) in itertools.product(range(14), enumerate(kinds)):
        if (day + place) % 3 != 0:
            continue
        at = now - day * DAY - (place + 1) * 37 * MINUTE
        columns = {"project_id": projects[team], "token_id": tokens[name], "started_at": at, "client": client}
        refuse_request(store, **columns, status=status, code=code, repeats=3 + 5 * day * (place + 1) % 40)
    opened = Opened(new_request_id(), now - 95 * MINUTE, projects["Mobile app"], tokens["iOS"], _CHAT)
    opening = Opening(opened.request_id, "POST", _CHAT, _CHAT, None, client="198.51.100.7")
    outcome = Outcome(503, streamed=False, duration_ms=210, code="upstream_key_rejected", may_cost=False)
    _use(store, [(opening, opened, Settlement(opened, outcome, Metered(model_asked="gpt-4o-mini")))])


def _limit(store: Store, projects: Mapping[str, str], tokens: Mapping[str, str]) -> None:
    """Set limits: some budgets are near their end, since they begin with what the month has used."""
    month = clock.to_rfc3339(store.database.now())[:7]
    month_began = clock.from_rfc3339(f"{month}-01")
    for team, share in (("Support assistant", "0.93"), ("Data team", "0.71"), ("Mobile app", "0.42")):
        spent = _spent(store, "project_id", projects[team], month_began)
        Projects(store).update(projects[team], {"budgets": [{"usd": _budget(spent, Decimal(share)), "per": "month"}]})
    spent = _spent(store, "token_id", tokens["editor of Grace"], month_began)
    usd = _budget(spent, Decimal("0.97"))
    Tokens(store).update(
        tokens["editor of Grace"], {"budgets": [{"usd": usd, "per": "month"}], "max_parallel_requests": 4}
    )
    Tokens(store).update(tokens["Android"], {"rate_limits": [{"requests": 60, "per": "minute"}]})
    Tokens(store).update(
        tokens["indexer"], {"allowed_ips": ["10.30.0.0/16"], "allowed_endpoints": ["* /v1/embeddings"]}
    )
    Tokens(store).update(tokens["nightly evaluation"], {"allowed_models": ["gpt-4o", "o4-mini"]})
    Projects(store).update(
        projects["Search"],
        {
            "rate_limits": [{"requests": 300, "per": "minute"}, {"tokens": 2_000_000, "per": "day"}],
            "max_parallel_requests": 32,
        },
    )


def _spent(store: Store, column: str, owner_id: str, since: int) -> Decimal:
    ((cost,),) = store.database.execute(
        f"SELECT COALESCE(SUM(cost), 0) FROM daily_usage WHERE {column} = ? AND start >= ?",  # noqa: S608 - names
        (owner_id, since),
    )
    return Decimal(int(cost)) / COST_UNIT


def _budget(spent: Decimal, share: Decimal) -> str:
    """Return a budget in whole dollars of which about this share is spent."""
    return str(max((spent / share).to_integral_value(), Decimal(1)))


def _end_some(store: Store, projects: Mapping[str, str], tokens: Mapping[str, str]) -> None:
    """Revoke a token that was made by mistake, rotate another one, and switch off a project."""
    Tokens(store).revoke(Tokens(store).create(projects["Data team"], name="trial of the intern").id)
    Tokens(store).rotate(tokens["support-web, production"], 24 * 3600)
    prototype = Projects(store).create("Prototype of 2025", API_KEY)
    Tokens(store).create(prototype.id, name="demo booth")
    Projects(store).update(prototype.id, {"is_active": False})


def _date_back(store: Store, now: int) -> None:
    """Give everything the times that it would have: all of it was written just now."""
    with store.database.write():
        store.database.run("UPDATE request SET settled_at = started_at + duration_ms * 1000", ())
        for table in ("project", "token"):
            store.database.run(f"UPDATE {table} SET created_at = created_at - ?", (40 * DAY,))  # noqa: S608 - names
        store.database.run(
            "UPDATE token SET request_count = (SELECT COUNT(*) FROM request WHERE token_id = token.id),"
            " last_used_at = (SELECT MAX(started_at) FROM request WHERE token_id = token.id)",
            (),
        )
    changes = store.database.execute("SELECT id FROM audit ORDER BY changed_at, id", ())
    for place, (row_id,) in enumerate(changes):
        back = (len(changes) - place) * 31 * HOUR * 24 // len(changes)
        set_columns(store, "audit", row_id, changed_at=now - back + place * SECOND)
