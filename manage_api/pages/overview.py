"""`/`: the overview."""

import flask

from store.management.projects import Projects
from store.store import Store


def blueprint(store: Store) -> flask.Blueprint:
    """Make the overview of a store."""
    routes = flask.Blueprint("overview", __name__)
    projects = Projects(store)

    @routes.get("/")
    def index() -> str:
        return flask.render_template("overview.html", projects=projects.list())

    return routes
