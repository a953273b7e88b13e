"""Pages for errors: the message of the API, and the way on.

An address that is no page's, nor the API's, is answered by a page where a browser opens it, and as the API answers
otherwise.
"""

import flask
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from manage_api import auth, errors
from manage_api.pages import protection
from store.errors import GatewayError, StoreUnavailable

_JSON, _HTML = "application/json", "text/html"


def register(routes: flask.Blueprint) -> None:
    """Show every exception of a page as a page, and unknown addresses to browsers."""
    routes.register_error_handler(GatewayError, _show)
    routes.register_error_handler(StoreUnavailable, _show_store_unavailable)
    routes.register_error_handler(HTTPException, _show_http)
    routes.register_error_handler(Exception, _show_unexpected)
    routes.app_errorhandler(NotFound)(_show_outside)
    routes.app_errorhandler(MethodNotAllowed)(_show_outside)


def _show(error: GatewayError) -> flask.Response:
    page = flask.render_template("problem.html", message=error.message, code=error.code, status=error.status)
    response = flask.make_response(page, error.status)
    response.headers.update({name: value for name, value in error.headers.items() if name != "WWW-Authenticate"})
    return response


def _show_store_unavailable(error: StoreUnavailable) -> flask.Response:
    errors.log_store_unavailable(error)
    return _show(error)


def _show_http(error: HTTPException) -> flask.Response:
    return _show(errors.of_http(error))


def _show_unexpected(error: Exception) -> flask.Response:
    errors.log_unexpected(error)
    return _show(GatewayError())


def _show_outside(error: HTTPException) -> flask.Response:
    """Show an address, or a method, that no view has; the session is not looked up for that."""
    wants_page = flask.request.accept_mimetypes.best_match([_JSON, _HTML]) == _HTML
    if auth.is_management(flask.request.path) or not wants_page:
        response = errors.answer_http(error)
    else:
        response = protection.add_headers(_show_http(error))
    response.vary.add("Accept")
    return response
