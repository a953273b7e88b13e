"""JSON as RFC 8259 has it, where Python's own reader is more generous than a store can be."""

import json
from typing import Any, Never

from flask.json.provider import DefaultJSONProvider

from store.errors import InvalidRequest


class StrictJSONProvider(DefaultJSONProvider):
    """Reads strict JSON and writes fields in the order in which they were given."""

    sort_keys = False

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        """Read UTF-8 JSON. Of a repeated key the last one counts.

        Raises InvalidRequest for anything else: NaN, Infinity, lone surrogates, and what nests too deeply or
        has too many digits to be read at all.
        """
        try:
            value = json.loads(s if isinstance(s, str) else s.decode(), parse_constant=_refuse, **kwargs)
            json.dumps(value, ensure_ascii=False).encode()  # fails for lone surrogates, wherever they are
        except (ValueError, RecursionError):
            raise InvalidRequest("The body is not valid JSON in UTF-8.") from None
        return value


def _refuse(constant: str) -> Never:
    raise ValueError(constant)
