"""`/start`: a project, a token, and a first request, on one page: the first minutes of a new gateway."""

import uuid

import flask

from manage_api import access_log, bodies
from manage_api.pages import forms, presets, projects, protection, proxy_address
from manage_api.pages.gate import Gate, entered, require_writer
from store.errors import InvalidRequest
from store.management.projects import Projects
from store.management.tokens import Tokens
from store.reports.request_list import RequestFilter, RequestList
from store.reports.token_list import TokenList
from store.store import Store

_RULES = (forms.EXPIRES, forms.MAX_REQUESTS, *forms.RULES)
_FIELDS = (forms.NAME, projects.KEY)


def blueprint(store: Store, gate: Gate, proxy_port: int) -> flask.Blueprint:
    """Make the page of a store."""
    pages = _Pages(store, gate, proxy_port)
    routes = flask.Blueprint("start", __name__, url_prefix="/start")
    routes.get("")(pages.index)
    routes.post("")(pages.create)
    routes.get("/<uuid:token_id>")(pages.first)
    return routes


class _Pages:
    def __init__(self, store: Store, gate: Gate, proxy_port: int) -> None:
        self._gate = gate
        self._proxy_port = proxy_port
        self._projects = Projects(store)
        self._tokens = Tokens(store)
        self._list = TokenList(store)
        self._requests = RequestList(store)

    def index(self) -> str:
        require_writer()
        return _form({"preset": "trying"})

    def create(self) -> str | tuple[str, int]:
        form = flask.request.form
        try:
            body = forms.body(_FIELDS, form)
            bodies.check("ProjectRequest", body)
            protection.require_first_time(self._gate.sessions, entered().session)
            project = bodies.create_project(self._projects, body)
        except InvalidRequest as error:
            return _form({**form, "api_key": ""}, error), error.status
        access_log.changed(project_id=project.id)
        rules = forms.body(_RULES, presets.texts(form.get("preset", "")))
        token = bodies.create_token(self._tokens, {"project_id": project.id, "name": "First token", **rules})
        access_log.changed(project_id=project.id, token_id=token.id)
        base_url = proxy_address.base_url(self._gate, self._proxy_port)
        return flask.render_template("start/ready.html", project=project, token=token, base_url=base_url, requests=())

    def first(self, token_id: uuid.UUID) -> str:
        token = self._list.get(str(token_id))
        page = self._requests.page(RequestFilter(token_id=token.id), limit=1)
        return flask.render_template("start/first.html", token=token, requests=page.records)


def _form(values: forms.Texts, error: InvalidRequest | None = None) -> str:
    message = error and forms.in_labels(error.message, _FIELDS)
    return flask.render_template(
        "start/form.html",
        values=values,
        message=message,
        name=forms.NAME,
        key=projects.KEY,
        presets=presets.PRESETS,
    )
