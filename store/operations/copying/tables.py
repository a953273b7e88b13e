"""The tables that are copied, and the values that their columns may hold.

SQLite stores any value in any column; PostgreSQL does not. So each value is converted to the form that both store, or
rejected with the name of its row.
"""

from collections.abc import Callable
from typing import Any

from peewee import (
    BigIntegerField,
    BlobField,
    BooleanField,
    CharField,
    Field,
    ForeignKeyField,
    IntegerField,
    Model,
    TextField,
)

from store.database import Row
from store.database.models import MODELS
from store.database.sql import storable
from store.errors import CopyFailed

type Fit = Callable[[Any], object]
"""Returns a value of a column as every database stores it. Raises ValueError, whose text does not quote it."""

_MAX_NAME = 40


class Table:
    """A table of the store, by its model."""

    def __init__(self, model: type[Model]) -> None:
        meta: Any = model._meta  # noqa: SLF001 - peewee's interface to a model's fields
        fields: list[Field] = meta.sorted_fields
        self.name: str = meta.table_name
        self.columns: list[str] = [field.column_name for field in fields]
        key = {field.name for field in meta.get_primary_keys() if not isinstance(field, TextField)}
        self._key = [index for index, field in enumerate(fields) if field.name in key]
        self._fits = [_fit(field) for field in fields]
        self._parents = [
            (field.column_name, field.rel_model._meta.table_name)  # noqa: SLF001 - the same
            for field in fields
            if isinstance(field, ForeignKeyField)
        ]

    @property
    def select(self) -> str:
        """The statement that reads all rows."""
        return f"SELECT {', '.join(self.columns)} FROM {self.name}"  # noqa: S608 - no data

    @property
    def orphans(self) -> list[str]:
        """The statements that read a row whose parent is missing."""
        return [
            f"{self.select} WHERE NOT EXISTS"  # noqa: S608 - no data
            f" (SELECT 1 FROM {parent} WHERE {parent}.id = {self.name}.{column}) LIMIT 1"
            for column, parent in self._parents
        ]

    def fitted(self, row: Row) -> Row:
        """Return a row as every database stores it. Raises CopyFailed, which names the row and the column."""
        try:
            return tuple([fit(value) for fit, value in zip(self._fits, row, strict=True)])
        except ValueError:
            raise CopyFailed(f"{self.named(row)}: {self._fault(row)}.") from None

    def named(self, row: Row) -> str:
        """Return a row's table and id, as far as the id is no text from outside."""
        key = " ".join(str(row[index])[:_MAX_NAME] for index in self._key)
        return f"{self.name} {storable(key)}"

    def _fault(self, row: Row) -> str:
        for column, fit, value in zip(self.columns, self._fits, row, strict=True):
            try:
                fit(value)
            except ValueError as error:
                return f"its {column} {error}"
        raise ValueError("nothing is wrong with it")


def _fit(field: Field) -> Fit:
    fit = _fit_of_kind(field.rel_field if isinstance(field, ForeignKeyField) else field)

    def fit_or_null(value: object) -> object:
        return None if value is None else fit(value)

    def fit_or_refuse_null(value: object) -> object:
        if value is None:
            raise ValueError("is missing")
        return fit(value)

    return fit_or_null if field.null else fit_or_refuse_null


def _fit_of_kind(field: Field) -> Fit:
    match field:
        case BigIntegerField():
            return _integer(64)
        case IntegerField():
            return _integer(32)
        case BooleanField():
            return _boolean
        case BlobField():
            return _bytes
        case CharField():
            return _text(field.max_length)
        case TextField():
            return _text(None)
    raise TypeError(f"a field of {type(field)}")


def _integer(bits: int) -> Fit:
    limit = 2 ** (bits - 1)

    def fit(value: object) -> int:
        if type(value) is not int or not -limit <= value < limit:
            raise ValueError(f"is no whole number of {bits} bits")
        return value

    return fit


def _boolean(value: object) -> bool:
    if not isinstance(value, int) or value not in {0, 1}:
        raise ValueError("is neither true nor false")
    return bool(value)


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("holds no bytes")  # noqa: TRY004 - ValueError is what a fit raises
    return value


def _text(longest: int | None) -> Fit:
    def fit(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError("holds no text")  # noqa: TRY004 - the same
        if longest is not None and len(value) > longest:
            raise ValueError(f"is longer than {longest} characters")
        return storable(value)

    return fit


TABLES = tuple(Table(model) for model in MODELS)
"""All tables of the store; a table that refers to another comes after it."""
