"""Keeps secrets out of mitmproxy's log messages, and removes its own log handler, which would repeat ours.

Some of mitmproxy's messages quote data of a peer, as the `repr` of bytes or in hexadecimal: a request that breaks off
in its headers is logged with its token. The quotes are replaced in the record, before any handler (mitmweb's event log
is one) sees it.
"""

import logging

from mitmproxy.addons.termlog import TermLogHandler

from store.runtime.redaction import mask_login, strip_quoted_bytes

_QUOTING_LOGGERS = ("mitmproxy.proxy.server", "mitmproxy.addons.clientplayback")


def _redact(record: logging.LogRecord) -> bool:
    _put_in(record, strip_quoted_bytes(record.getMessage()))
    return True


def _put_in(record: logging.LogRecord, message: str) -> None:
    """Set a record's message if it differs."""
    if message != record.getMessage():
        record.msg, record.args = message, None


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
    _put_in(record, mask_login(record.getMessage()))
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
