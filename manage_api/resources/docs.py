"""`/openapi.yaml`, the contract; `/docs`, which shows it. All files come from this server."""

from importlib import resources
from pathlib import Path

import flask

from manage_api.bodies import OPENAPI

_PAGE = Path(__file__).with_name("docs.html")
_SWAGGER_UI = Path(str(resources.files("flask_swagger_ui") / "dist"))


def blueprint() -> flask.Blueprint:
    """Make the resources. They need no token and no network."""
    routes = flask.Blueprint("docs", __name__)

    @routes.get("/openapi.yaml")
    def openapi() -> flask.Response:
        return flask.send_file(OPENAPI, mimetype="application/yaml")

    @routes.get("/docs")
    def page() -> flask.Response:
        return flask.send_file(_PAGE)

    @routes.get("/docs/<path:name>")
    def asset(name: str) -> flask.Response:
        return flask.send_from_directory(_SWAGGER_UI, name)

    return routes
