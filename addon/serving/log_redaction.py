"""Keeps secrets out of mitmproxy's log messages, and removes its own log handler, which would repeat ours.

Some of mitmproxy's messages quote data of a peer, as the `repr` of bytes or in hexadecimal: a request that breaks off
in its headers is logged with its token. The quotes are replaced in the record, before any handler (mitmweb's event log
is one) sees it.
"""

import logging
import re

from mitmproxy.addons.termlog import TermLogHandler

_QUOTED_BYTES = re.compile(r"""\bb(['"]).*\1|\b[0-9a-f]{32,}\b""", re.DOTALL)
_LOGIN = re.compile(r"(?<=[?&]token=)[^&\s]+")
_QUOTING_LOGGERS = ("mitmproxy.proxy.server", "mitmproxy.addons.clientplayback")


def _redact(record: logging.LogRecord) -> bool:
    _put_in(record, without_bytes(record.getMessage()))
    return True


def _put_in(record: logging.LogRecord, message: str) -> None:
    """Set a record's message if it differs."""
    if message != record.getMessage():
        record.msg, record.args = message, None


def without_bytes(text: str) -> str:
    """Replace quoted data of a peer in a text, which may hold a token or a key: the `repr` of bytes, hexadecimal."""
    return _QUOTED_BYTES.sub("<bytes>", text)


def redact_wire_bytes() -> None:
    """Replace quoted data of peers in the messages of mitmproxy's connection handlers."""
    for name in _QUOTING_LOGGERS:
        logger = logging.getLogger(name)
        logger.removeFilter(_redact)
        logger.addFilter(_redact)


def hide_login(logger: str) -> None:
    """Keep mitmweb's login out of a logger's messages: a client that has it can run code."""
    logging.getLogger(logger).addFilter(_without_login)


def _without_login(record: logging.LogRecord) -> bool:
    _put_in(record, _LOGIN.sub("...", record.getMessage()))
    return True


def quieten(level: int) -> None:
    """Log the opening and closing of connections at debug level only, and HTTP/2's headers never: they hold tokens."""
    logging.getLogger("mitmproxy.proxy.server").setLevel(level if level == logging.DEBUG else logging.WARNING)
    logging.getLogger("hpack").setLevel(logging.WARNING)


def remove_terminal_handler() -> None:
    """Remove mitmproxy's handler for the terminal; ours is installed."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, TermLogHandler)]:
        root.removeHandler(handler)
