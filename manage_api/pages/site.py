"""Assembles the pages, so that the order of a request's steps is read here."""

import flask

from manage_api.auth import Authentication
from manage_api.pages import (
    admins,
    audit,
    login,
    overview,
    prices,
    problems,
    projects,
    protection,
    rendering,
    reports,
    requests,
    start,
    status,
    tokens,
)
from manage_api.pages.gate import Gate
from manage_api.pages.status import Deployment
from store.reports.overview import Overview
from store.store import Store


def blueprint(
    store: Store, authentication: Authentication, gate: Gate, sums: Overview, deployment: Deployment
) -> flask.Blueprint:
    """Make the pages of a store, at `/`."""
    routes = flask.Blueprint(
        "pages", __name__, template_folder="templates", static_folder="static", static_url_path="/static"
    )
    routes.before_request(lambda: protection.require_own_page(is_https=gate.is_https()))
    routes.before_request(gate.require_session)
    routes.after_request(protection.add_headers)
    rendering.register(routes, gate.sessions)
    problems.register(routes)
    routes.register_blueprint(login.blueprint(authentication, gate))
    routes.register_blueprint(overview.blueprint(store, sums))
    routes.register_blueprint(projects.blueprint(store, gate.sessions))
    routes.register_blueprint(tokens.blueprint(store, gate, deployment.proxy_port))
    routes.register_blueprint(start.blueprint(store, gate, deployment.proxy_port))
    routes.register_blueprint(requests.blueprint(store))
    routes.register_blueprint(reports.blueprint(store))
    routes.register_blueprint(audit.blueprint(store))
    routes.register_blueprint(prices.blueprint(store, sums))
    routes.register_blueprint(admins.blueprint(store, gate.sessions))
    routes.register_blueprint(status.blueprint(store, deployment))
    return routes
