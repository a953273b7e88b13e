"""`/openapi.yaml`, the contract; `/docs`, which shows it. All files come from this server.

The page names the address at which it was reached for the operations of this port, and the proxy's port on the same
machine for the others. The proxy lets it read responses (`addon/cross_origin.py`), so that both can be tried out.
Administrators' sessions are of the same origin as the page, so browsers are told to run no other script in it.
"""

from importlib import resources
from pathlib import Path

import flask

from manage_api import responses
from manage_api.bodies import OPENAPI

_FILES = Path(__file__).parent
_PAGE = (_FILES / "docs.html").read_text(encoding="utf-8")
_SWAGGER_UI = Path(str(resources.files("flask_swagger_ui") / "dist"))
_HEADERS = {
    **responses.OWN_PAGE,
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' data: blob:; "  # its own signs, and images that are responses
        "connect-src http: https:; "  # the proxy may be anywhere
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
}


def blueprint(proxy_port: int) -> flask.Blueprint:
    """Make the resources. They need no token and no network."""
    routes = flask.Blueprint("docs", __name__)

    @routes.get("/openapi.yaml")
    def openapi() -> flask.Response:
        return flask.send_file(OPENAPI, mimetype="application/yaml")

    @routes.get("/docs")
    def page() -> str:
        return flask.render_template_string(_PAGE, proxy_port=proxy_port)

    @routes.get("/docs/try-out.js")
    def script() -> flask.Response:
        return flask.send_file(_FILES / "try-out.js")

    @routes.get("/docs/<path:name>")
    def asset(name: str) -> flask.Response:
        return flask.send_from_directory(_SWAGGER_UI, name)

    @routes.after_request
    def add_headers(response: flask.Response) -> flask.Response:
        response.headers.update(_HEADERS)
        return response

    return routes
