"""`/health` answers while the process is alive: a store that is down is no reason to restart it.

`/ready` answers while the store does. Otherwise load balancers should route to another node.
"""

import flask

from store.runtime import health as report
from store.store import Store


def blueprint(store: Store) -> flask.Blueprint:
    """Make the resources. They need no token."""
    routes = flask.Blueprint("health", __name__)

    @routes.get("/health")
    def health() -> dict[str, str]:
        return report.alive()

    @routes.get("/ready")
    def ready() -> dict[str, str]:
        store.database.check()
        return report.ready()

    return routes
