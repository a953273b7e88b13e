"""`/status`: the processes, the store and the settings of the gateway, for who looks after it."""

import functools
import importlib.metadata
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import flask

from manage_api.pages.processes import running
from store import schema
from store.network.addresses import hostport
from store.store import Store

_ALL_ADDRESSES = {"0.0.0.0", "::"}  # noqa: S104 - it is looked for, not listened on


class Deployment(NamedTuple):
    """The settings, as they may be shown, and where mitmweb and the proxy are.

    `mitmweb` is an address; empty where it does not run beside.
    """

    settings: Mapping[str, str] = {}
    mitmweb: str = ""
    proxy_port: int = 8080


UNTOLD = Deployment()


def blueprint(store: Store, deployment: Deployment) -> flask.Blueprint:
    """Make the page of a store and a deployment."""
    routes = flask.Blueprint("status", __name__, url_prefix="/status")
    database = store.database

    @routes.get("")
    def index() -> str:
        return flask.render_template(
            "status.html",
            processes=running(database),
            versions={"mitmproxy": _version("mitmproxy"), "schema": schema.version(), "store": database.version()},
            size=database.size(),
            log_size=database.log_size(),
            settings=deployment.settings,
            mitmweb=_reachable(deployment.mitmweb),
        )

    return routes


@functools.cache
def _version(distribution: str) -> str:
    return importlib.metadata.version(distribution)


def _reachable(mitmweb: str) -> str:
    """Return an address as the browser can open it: one that stands for all has the name that the browser uses."""
    found = urlsplit(mitmweb)
    if found.hostname not in _ALL_ADDRESSES:
        return mitmweb
    own = urlsplit(f"//{flask.request.host}").hostname or "localhost"
    return f"http://{hostport(own, found.port or 80)}"
