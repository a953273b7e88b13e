import asyncio

import pytest
from support.stores.ledger import NOON, PROJECT_ID, TOKEN_ID, open_request
from support.stores.stores import make_token, opening

from store.admission.admission import Admission
from store.database import Statement, locks
from store.database.models import MODELS
from store.ledger.ledger import Settlement
from store.request import Opened
from store.store import Store

type OutOfOrder = list[tuple[str, ...]]

FIRST = {table: Statement(f"SELECT 1 FROM {table} LIMIT 1") for table in locks.LOCK_ORDER}  # noqa: S608 - no data


def test_the_order_names_tables_of_the_store() -> None:
    assert {*locks.LOCK_ORDER} <= {model._meta.table_name for model in MODELS}  # noqa: SLF001


def test_locks_in_order_pass(store: Store, locks_out_of_order: OutOfOrder) -> None:
    with store.database.write():
        store.database.read_locked([*FIRST.values()], Statement("SELECT 1"))
    with store.database.write():  # a new transaction
        store.database.lock_rows(FIRST["request"])
    assert locks_out_of_order == []


@pytest.mark.parametrize(
    ("first", "second"), [(one, other) for other, one in zip(locks.LOCK_ORDER, locks.LOCK_ORDER[1:], strict=False)]
)
def test_locks_out_of_order_are_found(store: Store, locks_out_of_order: OutOfOrder, first: str, second: str) -> None:
    with store.database.write():
        store.database.lock_rows(FIRST[first])
        store.database.read_locked([FIRST[second]], Statement("SELECT 1"))
    assert locks_out_of_order == [(first, second)]
    locks_out_of_order.clear()


def test_an_update_out_of_order_is_found(store: Store, locks_out_of_order: OutOfOrder) -> None:
    with store.database.write():
        store.database.run("UPDATE token SET is_active = FALSE")
        store.database.touch()  # the secrets come last
        store.database.update("UPDATE project SET is_active = FALSE")
    assert locks_out_of_order == [("token", "secret", "project")]
    locks_out_of_order.clear()


def test_settling_and_admitting_in_one_transaction_keeps_the_order(
    store: Store, locks_out_of_order: OutOfOrder
) -> None:
    token = make_token(store)
    settlement = Settlement(Opened(open_request(store)["id"], NOON, PROJECT_ID, TOKEN_ID, "/v1/models"))
    admission = Admission(store)

    async def settle_and_admit() -> None:
        admission.settle(settlement)
        await admission.admit(token.value, opening())

    asyncio.run(settle_and_admit())
    admission.close()
    assert locks_out_of_order == []
