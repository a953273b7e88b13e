"""`/health`: am I alive? It asks nobody else: a store that is down is no reason to restart this process."""

import flask

from store import clock
from store.version import __version__


def blueprint() -> flask.Blueprint:
    """Make the resource; it needs no token."""
    routes = flask.Blueprint("health", __name__)

    @routes.get("/health")
    def health() -> dict[str, str]:
        return {
            "status": "ok",
            "version": __version__,
            "timestamp": clock.to_rfc3339(clock.now()),
        }

    return routes
