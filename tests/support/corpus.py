"""The corpus (`tests/corpus/`): answers as providers publish them, each with the row that it has in the ledger."""

import functools
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import brotli
import zstandard

from support.upstreams.events import sse

FOLDER = Path(__file__).parents[1] / "corpus"

CODINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "": lambda body: body,
    "gzip": functools.partial(gzip.compress, mtime=0),
    "br": brotli.compress,
    "zstd": zstandard.compress,
}
"""The content codings of answers; the empty one is none."""


@dataclass(frozen=True)
class Answer:
    """A body, as an upstream sends it."""

    content_type: str
    body: bytes


@dataclass(frozen=True)
class Case:
    """A file of the corpus: a request, its answer as a document, a stream or both, and its row.

    `upstream` is the origin of the provider, by whose prices the cost is computed.
    """

    name: str
    upstream: str
    path: str
    request: bytes
    answers: Sequence[Answer]
    row: Mapping[str, Any]
    """Fields of `GET /manage/requests`."""

    @property
    def usage(self) -> Mapping[str, Any]:
        """The row without its cost, which depends on the upstream."""
        return {name: value for name, value in self.row.items() if name != "cost_usd"}

    @classmethod
    def read(cls, file: Path) -> "Case":
        case = json.loads(file.read_text())
        answers = [Answer("application/json", json.dumps(case["answer"]).encode())] if "answer" in case else []
        answers += [Answer("text/event-stream", sse(*case["events"]))] if "events" in case else []
        asked = case["request"]
        return cls(file.stem, case["upstream"], asked["path"], json.dumps(asked["body"]).encode(), answers, case["row"])


CASES = [Case.read(file) for file in sorted(FOLDER.glob("*.json"))]
