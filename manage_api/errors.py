"""Turns every exception into a response with the one JSON error body."""

import logging
import traceback

import flask
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from store import errors
from store.errors import GatewayError

_LOG = logging.getLogger(__name__)

_BY_STATUS: dict[int | None, type[GatewayError]] = {
    404: errors.NotFound,
    413: errors.RequestTooLarge,
    415: errors.UnsupportedMediaType,
}


def register(app: flask.Flask) -> None:
    """Handle the gateway's own errors, those of Flask and werkzeug, and every other exception."""
    app.register_error_handler(GatewayError, _answer)
    app.register_error_handler(errors.StoreUnavailable, _answer_store_unavailable)
    app.register_error_handler(HTTPException, answer_http)
    app.register_error_handler(Exception, _answer_unexpected)


def log_store_unavailable(error: errors.StoreUnavailable) -> None:
    """Log that the store did not answer this request."""
    _LOG.error("store unavailable", extra={"cause": str(error.__cause__), "request_id": flask.g.request_id})


def log_unexpected(error: Exception) -> None:
    """Log an exception that is a fault of ours, without its message."""
    _LOG.error("unexpected error", extra={"exception": _trace(error), "request_id": flask.g.request_id})


def _answer(error: GatewayError) -> flask.Response:
    response = flask.jsonify(error.body())
    response.status_code = error.status
    response.headers.update(error.headers)
    return response


def _answer_store_unavailable(error: errors.StoreUnavailable) -> flask.Response:
    log_store_unavailable(error)
    return _answer(error)


def answer_http(error: HTTPException) -> flask.Response:
    """Return the response for an exception of Flask or werkzeug."""
    return _answer(of_http(error))


def of_http(error: HTTPException) -> GatewayError:
    """Return the gateway's own error for one of Flask or werkzeug."""
    if isinstance(error, MethodNotAllowed):
        return errors.MethodNotAllowed(", ".join(sorted(error.valid_methods or ())))
    return _BY_STATUS.get(error.code, errors.InvalidRequest)()


def _answer_unexpected(error: Exception) -> flask.Response:
    log_unexpected(error)
    return _answer(GatewayError())


def _trace(error: BaseException) -> str:
    """Return the traceback of an exception and its causes, without their messages: they may quote a secret."""
    cause = error.__cause__ or error.__context__
    earlier = _trace(cause) if cause else ""
    return f"{earlier}{''.join(traceback.format_tb(error.__traceback__))}{type(error).__qualname__}\n"
