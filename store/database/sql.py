"""Conditions of SQL statements, put together from those that are asked for."""

from collections.abc import Mapping, Sequence

from store.database.text import storable

type Conditions = Mapping[str, Sequence[object] | None]
"""SQL with `?` for its parameters, and these; None leaves a condition out."""


def where(conditions: Conditions) -> tuple[str, list[object]]:
    """Return what stands behind WHERE, and its parameters."""
    asked = {sql: parameters for sql, parameters in conditions.items() if parameters is not None}
    return " AND ".join(asked) or "1 = 1", [value for parameters in asked.values() for value in parameters]


def given(value: object) -> Sequence[object] | None:
    """Return the parameters of a condition on one value, where there is one."""
    return None if value is None else (storable(value) if isinstance(value, str) else value,)
