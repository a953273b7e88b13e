"""What is to be counted of a request that told no usage, and the bytes in which a process is asked."""

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import IO, Self

from addon.metering.estimates.said import Said

_LENGTH = struct.Struct(">I")
_SEPARATOR = b"\x1e"
"""Between events: no JSON has it (RFC 7464)."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and what its answer said: a few MiB at most, most of it as it came."""

    endpoint: str
    model: str | None
    service_tier: str | None = None
    model_asked: str | None = None
    request: bytes = field(default=b"", repr=False)
    """The request's JSON; empty where it is not known."""
    events: bytes = field(default=b"", repr=False)
    """Events of the answer, or the answer as far as it came, joined as `joined` does."""
    texts: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    """Texts that the answer said before `events`, by their names in Said."""
    beyond: int = 0
    """Bytes of text that the answer said and that are not kept."""

    @property
    def size(self) -> int:
        """Bytes that it takes."""
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
        """Read what `write` wrote, without what only the asker needs. Raises EOFError at the end of the pipe."""
        head = json.loads(read_block(file))
        request, events = read_block(file), read_block(file)
        texts = tuple((name, read_block(file)) for name in head["names"])
        return cls(head["endpoint"], head["model"], None, None, request, events, texts, head["beyond"])


def joined(events: Iterable[bytes]) -> bytes:
    """Put events together."""
    return _SEPARATOR.join(events)


def separated(events: bytes) -> list[bytes]:
    """Return the events that were put together."""
    return events.split(_SEPARATOR)


def texts_of(said: Said) -> tuple[tuple[str, bytes], ...]:
    """Return the texts of what was said."""
    return tuple((name, bytes(text)) for name, text in said.texts.items())


def write_block(file: IO[bytes], block: bytes) -> None:
    """Write bytes with their length before them."""
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
