"""`/health`: am I alive? It asks nobody else: a store that is down is no reason to restart this process.

`/ready`: does the store answer? If not, whoever shares the load out had better ask another node.
"""

import flask

from store.runtime import health as reports
from store.store import Store


def blueprint(store: Store) -> flask.Blueprint:
    """Make the resources; they need no token."""
    routes = flask.Blueprint("health", __name__)

    @routes.get("/health")
    def health() -> dict[str, str]:
        return reports.alive()

    @routes.get("/ready")
    def ready() -> dict[str, str]:
        store.database.check()
        return reports.ready()

    return routes
