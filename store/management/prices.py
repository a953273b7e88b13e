"""The operator's own prices, which replace the built-in ones.

The column `rates` is a JSON object: for any of RATES a decimal text, in US dollars for a million tokens or for one
piece, from 0 to 999999.999999. Of several prices the most specific one counts: project and model, project and family (a
model with `*`), project alone, model alone, family alone.
"""

import builtins
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from store.database import Database, Statement, locks
from store.database.locks import lock_project
from store.database.models import Price
from store.database.transactions import transaction
from store.errors import NotFound
from store.ledger.own_prices import RATES
from store.management import audit, names
from store.management.audit import Action, Fields, Subject, Versions
from store.money import decimal_text
from store.store import Store

_SMALLEST = Decimal("0.000001")

type Rates = Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class PriceRecord:
    """A price, for a project, a model, or both. Rates are US dollars for a million tokens, or for one piece."""

    id: str
    project_id: str | None
    model: str | None
    rates: Rates
    updated_at: int
    project_name: str | None = None

    @classmethod
    def of(cls, row: Price, project_names: Mapping[str, str]) -> Self:
        """Read a row."""
        rates = {name: Decimal(rate) for name, rate in json.loads(row.rates).items()}
        project_name = project_names.get(row.project_id)
        return cls(row.id, row.project_id or None, row.model or None, rates, row.updated_at, project_name)


class OwnPrices:
    """Reads and writes prices. Each method raises StoreUnavailable when the store does not answer."""

    def __init__(self, store: Store) -> None:
        self._database = store.database

    def list(self) -> builtins.list[PriceRecord]:
        """Return every price: those of any project first, then project by project."""
        with self._database.read():
            records = self._records(Price.select())
        return sorted(records, key=lambda record: (record.project_id or "", record.model or ""))

    @transaction
    def set(self, rates: Rates, *, project_id: str | None = None, model: str | None = None) -> PriceRecord:
        """Set the price of a project, a model, or both, in place of an earlier one.

        Rates are rounded to six decimals. The same rates again change nothing. Raises NotFound for an unknown project.
        """
        key = {"project_id": project_id or "", "model": model or ""}
        if project_id is not None:
            lock_project(self._database, project_id)
        columns = {"rates": _json(rates), "updated_at": self._now()}
        former = Price.get_or_none(**key)
        if former and former.rates == columns["rates"]:
            return self._records([former])[0]
        Price.insert(id=str(uuid.uuid4()), **key, **columns).on_conflict(
            conflict_target=[Price.project_id, Price.model], update=columns
        ).execute()
        row = Price.get(**key)
        _record(self._database, "price.set", row, Versions(_fields(former), _fields(row)))
        return self._records([row])[0]

    def _records(self, rows: Iterable[Price]) -> builtins.list[PriceRecord]:
        found = [*rows]
        project_names = names.of_projects(self._database, {row.project_id for row in found if row.project_id})
        return [PriceRecord.of(row, project_names) for row in found]

    def _now(self) -> int:
        """Return a time that no other price has: caches of prices see by it that they have changed.

        Prices are set one after the other.
        """
        select = Statement("SELECT COALESCE(MAX(updated_at), 0) FROM price")
        ((last,),) = self._database.read_locked([locks.one_at_a_time()], select).rows
        return max(self._database.now(), int(last) + 1)

    @transaction
    def delete(self, price_id: str) -> None:
        """Remove a price. Raises NotFound."""
        self._database.read_locked([locks.one_at_a_time()], Statement("SELECT 1"))
        row = Price.get_or_none(Price.id == price_id)
        if row is None or not Price.delete().where(Price.id == price_id).execute():
            raise NotFound("There is no such price.")
        _record(self._database, "price.delete", row, Versions(_fields(row), {}))


def _record(database: Database, action: Action, row: Price, versions: Versions) -> None:
    """Add the row of the audit; a price is named by its model."""
    audit.record(database, action, Subject(row.id, row.model or None, row.project_id or None), versions)


def _fields(row: Price | None) -> Fields:
    if row is None:
        return {}
    return {"model": row.model or None, "rates": json.loads(row.rates)}


def _json(rates: Rates) -> str:
    """Return rates as JSON, none of them negative: even zero has a sign, which is removed."""
    return json.dumps({name: decimal_text(abs(rates[name].quantize(_SMALLEST))) for name in RATES if name in rates})
