import threading
from decimal import Decimal

import pytest
from support.stores.stores import make_many_tokens, make_token, set_columns

from store import clock
from store.ledger import retention
from store.management import audit
from store.management.audit import Origin
from store.management.prices import OwnPrices
from store.management.tokens import Tokens
from store.reports.audit_log import AuditFilter, AuditLog, AuditRecord
from store.reports.pages import Cursor
from store.store import Store


@pytest.fixture
def log(store: Store) -> AuditLog:
    return AuditLog(store)


def actions(log: AuditLog, about: AuditFilter) -> list[str]:
    return [record.action for record in log.page(about).records]


def test_pages_join_newest_first(store: Store, log: AuditLog) -> None:
    token = make_token(store)
    for number in range(1, 6):
        Tokens(store).update(token.id, {"max_requests": number})
    found: list[AuditRecord] = []
    cursor = None
    while True:
        page = log.page(AuditFilter(), limit=2, after=cursor)
        found += page.records
        if page.next_cursor is None:
            break
        cursor = Cursor.parse(str(page.next_cursor))
        Tokens(store).update(token.id, {"max_requests": 100 + len(found)})
    assert [record.changes["max_requests"]["after"] for record in found[:5]] == [5, 4, 3, 2, 1]
    assert [record.action for record in found[5:]] == ["token.create", "project.create"]


def test_objects_are_found_by_every_name_that_they_had(store: Store, log: AuditLog) -> None:
    first = make_token(store, name="Old")
    second = make_token(store, name="Other", project_id=first.project_id)
    Tokens(store).update(first.id, {"name": "New"})
    Tokens(store).update(second.id, {"name": "Old"})
    assert log.named("New") == [(first.id, "token.update")]
    assert sorted(log.named("Old")) == sorted([(first.id, "token.create"), (second.id, "token.update")])
    assert log.named("old") == []


def test_each_filter_selects(store: Store, log: AuditLog) -> None:
    audit.begin(Origin("ops"))
    token, other = make_token(store), make_token(store)
    audit.begin(audit.UNKNOWN)
    make_many_tokens(store, token.project_id, 1)
    Tokens(store).revoke_all(token.project_id)
    price = OwnPrices(store).set({"input": Decimal(1)}, project_id=other.project_id)
    both = ["token.create", "project.create"]
    assert actions(log, AuditFilter(actor="ops")) == both * 2
    assert actions(log, AuditFilter(action="token.create")) == ["token.create"] * 2
    assert actions(log, AuditFilter(project_id=token.project_id)) == ["project.tokens.revoke", *both]
    assert actions(log, AuditFilter(object_id=token.id)) == ["project.tokens.revoke", "token.create"]
    assert actions(log, AuditFilter(object_id=price.id)) == ["price.set"]
    assert actions(log, AuditFilter(object_name="Tests", project_id=other.project_id)) == ["project.create"]
    moment = log.page(AuditFilter(action="price.set")).records[0].changed_at
    assert actions(log, AuditFilter(start=moment)) == ["price.set"]
    assert "price.set" not in actions(log, AuditFilter(end=moment))
    assert actions(log, AuditFilter(actor="\0", object_id="\ud800", project_id="%")) == []


@pytest.mark.parametrize(("days", "left"), [(None, 2), (5, 1)])
def test_rows_stay_for_ever_unless_their_days_are_set(store: Store, log: AuditLog, days: int | None, left: int) -> None:
    make_token(store)
    _, oldest = log.page(AuditFilter()).records
    set_columns(store, "audit", oldest.id, changed_at=clock.now() - 7 * clock.DAY)
    retention.clean(store.database, 1, threading.Event(), audit_days=days)
    assert len(log.page(AuditFilter()).records) == left
