"""The corpus (`tests/corpus/`): answers as providers publish them, each with the row that it has in the ledger."""

import functools
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import brotli
import zstandard

from support.upstreams.events import sse

FOLDER = Path(__file__).parents[1] / "corpus"

MOMENT = datetime(2026, 11, 20, 12, tzinfo=UTC)
"""The time of all requests of the corpus: prices change at a date, and DeepSeek's at a time of the day."""

CODINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "": lambda body: body,
    "gzip": functools.partial(gzip.compress, mtime=0),
    "br": brotli.compress,
    "zstd": zstandard.compress,
}
"""The content codings of answers; the empty one is none."""

_COSTS = {"cost_usd", "told_cost_usd", "cost_is_minimum"}
_JSON = "application/json"
_BOUNDARY = "corpus"


@dataclass(frozen=True)
class Body:
    """A request's or an answer's body, and its type."""

    content_type: str
    content: bytes


@dataclass(frozen=True)
class Case:
    """A file of the corpus: a request, its answer as a document, a stream or both, and its row.

    `upstream` is the origin of the provider, by whose prices the cost is computed.
    """

    name: str
    upstream: str
    path: str
    request: Body
    answers: Sequence[Body]
    row: Mapping[str, Any]
    """Fields of `GET /manage/requests`."""

    @property
    def usage(self) -> Mapping[str, Any]:
        """The row without its cost, which depends on the upstream."""
        return {name: value for name, value in self.row.items() if name not in _COSTS}

    @property
    def cost(self) -> Mapping[str, Any]:
        """The fields of the row about its cost."""
        return {name: value for name, value in self.row.items() if name in _COSTS}

    @classmethod
    def read(cls, file: Path) -> "Case":
        case = json.loads(file.read_text())
        answers = [_json(case["answer"])] if "answer" in case else []
        answers += [Body("text/event-stream", sse(*case["events"]))] if "events" in case else []
        asked = case["request"]
        request = _form(asked["form"]) if "form" in asked else _json(asked["body"])
        return cls(file.stem, case["upstream"], asked["path"], request, answers, case["row"])


def _json(value: object) -> Body:
    return Body(_JSON, json.dumps(value).encode())


def _form(fields: Mapping[str, str]) -> Body:
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    return Body(f"multipart/form-data; boundary={_BOUNDARY}", f"{''.join(parts)}--{_BOUNDARY}--\r\n".encode())


CASES = [Case.read(file) for file in sorted(FOLDER.glob("*.json"))]
