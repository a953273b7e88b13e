"""Strict JSON (RFC 8259): `json.loads` accepts more than the store can keep."""

import json
from typing import Any, Never

from flask.json.provider import DefaultJSONProvider

from store.errors import InvalidRequest


class StrictJSONProvider(DefaultJSONProvider):
    """Reads strict JSON. Writes fields in the order of the object."""

    sort_keys = False

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        """Read UTF-8 JSON. Of a repeated key the last one counts.

        Raises InvalidRequest for anything else: NaN, Infinity, lone surrogates, too deep nesting, and numbers with too
        many digits.
        """
        try:
            value = json.loads(s if isinstance(s, str) else s.decode(), parse_constant=_refuse, **kwargs)
            json.dumps(value, ensure_ascii=False).encode()  # fails for lone surrogates, wherever they are
        except (ValueError, RecursionError):
            raise InvalidRequest("The body is not valid JSON in UTF-8.") from None
        return value


def _refuse(constant: str) -> Never:
    raise ValueError(constant)
