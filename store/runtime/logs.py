"""Logging: one handler to stderr for every library, without secrets.

Tokens in paths are masked here in every line, and records of libraries that show parameters are dropped.
"""

import logging
import sys
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from store.runtime.redaction import mask_token_paths

type Format = Literal["console", "json"]

_VERBOSE = ("peewee",)
"""Loggers whose debug records show the parameters of statements: a parameter may be a token."""


def _without_leftovers(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Drop the fields that formatters of other handlers leave on a record."""
    event.pop("message", None)
    event.pop("asctime", None)
    return event


_ENRICH: tuple[Processor, ...] = (
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    _without_leftovers,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)


class _Handler(logging.StreamHandler[Any]):
    """Our handler, to be recognised when logging is configured again."""


def configure(level: int, log_format: Format) -> None:
    """Send every record from `level` on to stderr, from stdlib loggers and structlog's alike.

    `console` is for people; `json` writes one object a line with `timestamp` (ISO 8601, UTC), `level`,
    `logger`, `event`, the record's extra fields, and `exception` as text. Other handlers stay.
    """
    handler = _Handler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_ENRICH,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _masked(_renderer(log_format)),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [*(other for other in root.handlers if not isinstance(other, _Handler)), handler]
    root.setLevel(level)
    for name in _VERBOSE:
        logging.getLogger(name).setLevel(max(level, logging.INFO))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            *_ENRICH,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def _renderer(log_format: Format) -> Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer()
    # The default shows the values of variables in tracebacks where it can.
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)


def _masked(render: Processor) -> Processor:
    def processor(logger: WrappedLogger, name: str, event: EventDict) -> str:
        return mask_token_paths(str(render(logger, name, event)))

    return processor
