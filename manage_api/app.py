"""Assembles the Flask application, so that the order of a request's steps is read here."""

from collections.abc import Sequence

import flask

from manage_api import access_log, auth, contract, errors, request_ids, strict_json
from manage_api.pages import site
from manage_api.pages.gate import Gate
from manage_api.pages.status import UNTOLD, Deployment
from manage_api.resources import admins, audit, docs, health, metrics, prices, projects, requests, tokens, usage
from store.management.admin_sessions import AdminSessions
from store.network.addresses import Network
from store.reports.overview import Overview
from store.store import Store


def create_app(
    store: Store,
    management_token: str,
    trusted_proxies: Sequence[Network] = (),
    deployment: Deployment = UNTOLD,
    overview: Overview | None = None,
) -> flask.Flask:
    """Make the management API and the pages of an open store; `management_token` is that of the administrator `root`.

    The client's address is taken from the `X-Forwarded-For` of `trusted_proxies`. The pages show what is told of the
    deployment, and the documentation tries out requests to its proxy. `overview` is one that a `Renewal` renews;
    without it the application makes its own.
    """
    app = flask.Flask(__name__, static_folder=None)
    app.json = strict_json.StrictJSONProvider(app)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    authentication = auth.Authentication(store, management_token)
    app.url_map.merge_slashes = False  # no redirects: a path with an extra slash is another path
    request_ids.register(app)
    access_log.register(app, trusted_proxies)
    auth.register(app, authentication)
    contract.register(app)
    errors.register(app)
    app.register_blueprint(projects.blueprint(store))
    app.register_blueprint(tokens.blueprint(store))
    app.register_blueprint(usage.blueprint(store))
    app.register_blueprint(requests.blueprint(store))
    app.register_blueprint(prices.blueprint(store))
    app.register_blueprint(admins.blueprint(store))
    app.register_blueprint(audit.blueprint(store))
    app.register_blueprint(health.blueprint(store))
    app.register_blueprint(metrics.blueprint(store))
    app.register_blueprint(docs.blueprint(deployment.proxy_port))
    gate = Gate(AdminSessions(store, management_token), trusted_proxies)
    app.register_blueprint(site.blueprint(store, authentication, gate, overview or Overview(store), deployment))
    return app
