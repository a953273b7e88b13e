"""Parts of SQL statements: conditions, and texts that every database can store."""

import re
from collections.abc import Mapping, Sequence

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

type Conditions = Mapping[str, Sequence[object] | None]
"""SQL with `?` for its parameters, and the parameters; None omits the condition."""


def storable(text: str) -> str:
    """Replace the characters that PostgreSQL cannot store: NUL and lone surrogates."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def where(conditions: Conditions) -> tuple[str, list[object]]:
    """Return the text after WHERE, and its parameters."""
    asked = {sql: parameters for sql, parameters in conditions.items() if parameters is not None}
    return " AND ".join(asked) or "1 = 1", [value for parameters in asked.values() for value in parameters]


def given(value: object) -> Sequence[object] | None:
    """Return the parameters of a condition on one value; None for None."""
    return None if value is None else (storable(value) if isinstance(value, str) else value,)
