"""Pages for errors: the message of the API, and the way on."""

import flask

from manage_api import errors
from store.errors import GatewayError, StoreUnavailable


def register(routes: flask.Blueprint) -> None:
    """Show every exception of a page as a page."""
    routes.register_error_handler(GatewayError, _show)
    routes.register_error_handler(StoreUnavailable, _show_store_unavailable)
    routes.register_error_handler(Exception, _show_unexpected)


def _show(error: GatewayError) -> tuple[str, int, dict[str, str]]:
    headers = {name: value for name, value in error.headers.items() if name != "WWW-Authenticate"}
    page = flask.render_template("problem.html", message=error.message, code=error.code, status=error.status)
    return page, error.status, headers


def _show_store_unavailable(error: StoreUnavailable) -> tuple[str, int, dict[str, str]]:
    errors.log_store_unavailable(error)
    return _show(error)


def _show_unexpected(error: Exception) -> tuple[str, int, dict[str, str]]:
    errors.log_unexpected(error)
    return _show(GatewayError())
