"""Keeps a request's body that has to be read before the request is admitted: a policy of its token judges it.

The body stays in memory up to IN_MEMORY bytes, and in a temporary file beyond that. The file has no name, so the system
frees its space however the process ends. Bodies never fill the file system: a part of it stays free for others.
"""

import contextlib
import errno
import logging
import shutil
import tempfile
from collections.abc import Iterator

from store.errors import RequestTooLarge, ServiceUnavailable

IN_MEMORY = 1024 * 1024
"""Bytes of a body that are kept in memory."""

KEPT_FREE = 0.05
"""The share of the temporary folder's file system that is left to others."""

PIECE = 64 * 1024
"""Bytes that are read back at once: as many as are read from a socket at once."""

_FAILED = "The gateway cannot keep the request's body, which this token's policies require it to read first. Try again."

_log = logging.getLogger(__name__)


class BodyMissing(Exception):
    """The store needs the request's body to decide, and the body has not come yet."""


def check_length(length: int, most: int) -> None:
    """Reject a body of more than `most` bytes. Raises RequestTooLarge."""
    if length > most:
        raise too_large(most)


def too_large(most: int) -> RequestTooLarge:
    """Return the error for a body of more than `most` bytes, as it was sent or decoded."""
    return RequestTooLarge(
        "This token's policies require the request's body to be read before it is forwarded, and that is "
        f"possible up to {most} bytes (the gateway's setting MAX_SPOOL)."
    )


class Spool:
    """One body. It is written in pieces, and can be read any number of times after that, until it is closed."""

    def __init__(self, most: int) -> None:
        """`most` is the number of bytes that the body may have."""
        self.size = 0
        """Bytes of the body so far."""
        self._most = most
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - it outlives this method

    @property
    def is_closed(self) -> bool:
        """True once the body is gone."""
        return self._file.closed

    def write(self, data: bytes) -> None:
        """Add a piece. Raises RequestTooLarge, and ServiceUnavailable where the file cannot be written."""
        check_length(self.size + len(data), self._most)
        with _failures():
            if self.size + len(data) > IN_MEMORY:
                _check_space()
            self._file.write(data)
        self.size += len(data)

    def pieces(self) -> Iterator[bytes]:
        """Yield the body, in pieces of up to PIECE bytes. Raises ServiceUnavailable where it cannot be read.

        Each call begins at the start of the body. The body may be closed in between, which ends with that error.
        """
        read = 0
        while read < self.size:
            piece = self._read(read)
            read += len(piece)
            yield piece

    def _read(self, start: int) -> bytes:
        if self.is_closed:  # the exchange has ended
            raise ServiceUnavailable
        with _failures():
            self._file.seek(start)
            piece = self._file.read(min(PIECE, self.size - start))
            if not piece:
                raise OSError("the file is shorter than the body")
        return piece

    def close(self) -> None:
        """Forget the body."""
        with contextlib.suppress(OSError):  # what was not written yet, to a full file system
            self._file.close()


def _check_space() -> None:
    """Raise OSError where too little of the file system is free."""
    space = shutil.disk_usage(tempfile.gettempdir())
    if space.free < KEPT_FREE * space.total:
        raise OSError(errno.ENOSPC, "the temporary folder is nearly full")


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """Turn errors of the file system, and those of a file that is closed meanwhile, into an answer for the client."""
    try:
        yield
    except (OSError, ValueError) as error:
        _log.error("a request's body cannot be kept: %s", getattr(error, "strerror", None) or error)
        raise ServiceUnavailable(_FAILED) from None
