"""A request for an estimate: what was asked and answered without a usage, and its form in a pipe to the tokenizer."""

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import IO, Self

from addon.metering.estimates.text_accumulator import TextAccumulator
from store.ledger.usage import Conditions

_LENGTH = struct.Struct(">I")
_SEPARATOR = b"\x1e"
"""Between events: no JSON has it (RFC 7464)."""


@dataclass(frozen=True, slots=True)
class EstimateRequest:
    """A request and its response so far: a few MiB at most, mostly unparsed."""

    endpoint: str
    model: str | None
    conditions: Conditions = ()
    model_asked: str | None = None
    request: bytes = field(default=b"", repr=False)
    """The request's JSON; empty where it is not known."""
    events: bytes = field(default=b"", repr=False)
    """Events of the response, or the response as far as it came, joined as by `joined`."""
    texts: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    """Texts of the response before `events`, by their names in TextAccumulator."""
    beyond: int = 0
    """Bytes of text of the response that are not kept."""

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return len(self.request) + len(self.events) + sum(len(text) for _, text in self.texts)

    def write(self, file: IO[bytes]) -> None:
        """Write it to a pipe. Raises OSError."""
        names = [name for name, _ in self.texts]
        parts = [self.request, self.events, *(text for _, text in self.texts)]
        head = {"endpoint": self.endpoint, "model": self.model, "beyond": self.beyond, "names": names}
        write_block(file, json.dumps(head).encode())
        for part in parts:
            write_block(file, part)
        file.flush()

    @classmethod
    def read(cls, file: IO[bytes]) -> Self:
        """Read what `write` wrote: without conditions and model asked. Raises EOFError at the end of the pipe."""
        head = json.loads(read_block(file))
        request, events = read_block(file), read_block(file)
        texts = tuple((name, read_block(file)) for name in head["names"])
        return cls(head["endpoint"], head["model"], (), None, request, events, texts, head["beyond"])


def joined(events: Iterable[bytes]) -> bytes:
    """Join events."""
    return _SEPARATOR.join(events)


def separated(events: bytes) -> list[bytes]:
    """Return the events that were joined."""
    return events.split(_SEPARATOR)


def texts_of(texts: TextAccumulator) -> tuple[tuple[str, bytes], ...]:
    """Return a copy of accumulated texts."""
    return tuple((name, bytes(text)) for name, text in texts.texts.items())


def write_block(file: IO[bytes], block: bytes) -> None:
    """Write bytes, preceded by their length."""
    file.write(_LENGTH.pack(len(block)))
    file.write(block)


def read_block(file: IO[bytes]) -> bytes:
    """Read what `write_block` wrote. Raises EOFError where the file ends before."""
    (length,) = _LENGTH.unpack(_exactly(file, _LENGTH.size))
    return _exactly(file, length)


def _exactly(file: IO[bytes], length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise EOFError
    return data
