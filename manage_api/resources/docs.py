"""`/openapi.yaml`, the contract; `/docs`, which shows it. All files come from this server.

The page names the address at which it was reached for the operations of this port, and the proxy's port on the same
machine for the others. The proxy lets it read responses (`addon/cross_origin.py`), so that both can be tried out.
"""

from importlib import resources
from pathlib import Path

import flask

from manage_api.bodies import OPENAPI

_PAGE = Path(__file__).with_name("docs.html").read_text(encoding="utf-8")
_SWAGGER_UI = Path(str(resources.files("flask_swagger_ui") / "dist"))


def blueprint(proxy_port: int) -> flask.Blueprint:
    """Make the resources. They need no token and no network."""
    routes = flask.Blueprint("docs", __name__)

    @routes.get("/openapi.yaml")
    def openapi() -> flask.Response:
        return flask.send_file(OPENAPI, mimetype="application/yaml")

    @routes.get("/docs")
    def page() -> str:
        return flask.render_template_string(_PAGE, proxy_port=proxy_port)

    @routes.get("/docs/<path:name>")
    def asset(name: str) -> flask.Response:
        return flask.send_from_directory(_SWAGGER_UI, name)

    return routes
