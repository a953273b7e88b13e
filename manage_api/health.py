"""`/health`: am I alive? It asks nobody else: a store that is down is no reason to restart this process."""

import flask

from store.health import report


def blueprint() -> flask.Blueprint:
    """Make the resource; it needs no token."""
    routes = flask.Blueprint("health", __name__)

    @routes.get("/health")
    def health() -> dict[str, str]:
        return report()

    return routes
