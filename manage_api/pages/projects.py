"""`/projects`: projects, with their limits, usage and tokens; each owns an upstream key."""

import uuid

import flask
from werkzeug.wrappers import Response as BaseResponse

from manage_api import access_log, bodies
from manage_api.pages import forms, protection, recent_usage
from manage_api.pages.gate import entered, require_writer
from store import clock
from store.errors import GatewayError, InvalidRequest
from store.limits.standing import LimitStanding
from store.management import bulk
from store.management.admin_sessions import AdminSessions
from store.management.projects import ProjectChanges, ProjectRecord, Projects
from store.management.tokens import Tokens
from store.reports.token_list import Order, State, TokenFilter, TokenList
from store.reports.usage_query import Dimension, UsageFilter
from store.reports.usage_report import UsageReports
from store.store import Store

KEY = forms.Field("api_key", "Upstream key", "The provider's key. It is encrypted, and never shown again.")
_FIELDS = (forms.NAME, KEY, *forms.RULES)

_TOKENS = 20
"""Tokens that a project's page shows: those that were used last."""


def _state(text: str) -> bool:
    if text not in {"on", "off"}:
        raise ValueError("no state")
    return text == "on"


_STATE = forms.Field("is_active", "State", "", _state, "on or off")


def blueprint(store: Store, sessions: AdminSessions) -> flask.Blueprint:
    """Make the pages of a store's projects."""
    pages = _Pages(store, sessions)
    routes = flask.Blueprint("projects", __name__, url_prefix="/projects")
    routes.get("")(pages.index)
    routes.get("/new")(pages.new)
    routes.post("/new")(pages.create)
    routes.get("/<uuid:project_id>")(pages.show)
    routes.get("/<uuid:project_id>/edit")(pages.edit)
    routes.post("/<uuid:project_id>/edit")(pages.update)
    routes.get("/<uuid:project_id>/delete")(pages.confirm_delete)
    routes.post("/<uuid:project_id>/delete")(pages.delete)
    routes.get("/<uuid:project_id>/revoke")(pages.confirm_revoke)
    routes.post("/<uuid:project_id>/revoke")(pages.revoke)
    return routes


class _Pages:
    def __init__(self, store: Store, sessions: AdminSessions) -> None:
        self._store = store
        self._sessions = sessions
        self._projects = Projects(store)
        self._tokens = Tokens(store)
        self._list = TokenList(store)
        self._reports = UsageReports(store)

    def index(self) -> str:
        search = flask.request.args.get("q", "").strip()
        found = [each for each in self._projects.list() if search.lower() in each.name.lower()]
        month = UsageFilter(start=clock.month_of(clock.now()))
        spent = {group.project_id: group.sums for group in self._reports.report((Dimension.PROJECT,), month).groups}
        return flask.render_template(
            "projects/index.html",
            projects=found,
            search=search,
            tokens=self._list.counts(),
            spent=spent,
            budgets={each.id: _nearest_budget(each) for each in found},
        )

    def new(self) -> str:
        require_writer()
        return _form({}, None)

    def create(self) -> BaseResponse | tuple[str, int]:
        form = flask.request.form
        try:
            body = {**forms.body(_FIELDS, form), "name": form.get("name", ""), "api_key": form.get("api_key", "")}
            bodies.check("ProjectRequest", body)
            protection.require_first_time(self._sessions, entered().session)
            record = bodies.create_project(self._projects, body)
        except InvalidRequest as error:
            return _form({**form, "api_key": ""}, error), error.status
        access_log.changed(project_id=record.id)
        return flask.redirect(flask.url_for(".show", project_id=record.id, done="created"), 303)

    def show(self, project_id: uuid.UUID) -> str:
        record = self._projects.get(str(project_id))
        return flask.render_template(
            "projects/show.html",
            project=record,
            tokens=self._list.page(TokenFilter(project_id=record.id), Order.USED),
            most=_TOKENS,
            usage=recent_usage.read(self._reports, UsageFilter(project_id=record.id)),
        )

    def edit(self, project_id: uuid.UUID) -> str:
        require_writer()
        record = self._projects.get(str(project_id))
        return _form({**forms.texts_of(record), "is_active": "on" if record.is_active else "off"}, None, record)

    def update(self, project_id: uuid.UUID) -> BaseResponse | tuple[str, int]:
        record, form = self._projects.get(str(project_id)), flask.request.form
        try:
            body = forms.body((forms.NAME, _STATE, *forms.RULES), form)
            if form.get("api_key"):
                body["api_key"] = form["api_key"]
            bodies.check("ProjectUpdateRequest", body)
            with access_log.changing(project_id=record.id):
                self._projects.update(record.id, bodies.named(ProjectChanges, body))
        except InvalidRequest as error:
            return _form({**form, "api_key": ""}, error, record), error.status
        return flask.redirect(flask.url_for(".show", project_id=record.id, done="changed"), 303)

    def confirm_delete(self, project_id: uuid.UUID) -> str:
        require_writer()
        record = self._projects.get(str(project_id))
        number_of_tokens = len(bulk.token_ids(self._store.database, record.id))
        return flask.render_template("projects/delete.html", project=record, number_of_tokens=number_of_tokens)

    def delete(self, project_id: uuid.UUID) -> BaseResponse:
        with access_log.changing(project_id=str(project_id)):
            self._projects.delete(str(project_id))
        return flask.redirect(flask.url_for(".index", done="deleted"), 303)

    def confirm_revoke(self, project_id: uuid.UUID) -> str:
        require_writer()
        record = self._projects.get(str(project_id))
        return flask.render_template(
            "projects/revoke.html",
            project=record,
            active=self._list.page(TokenFilter(project_id=record.id, state=State.WORKING), Order.USED),
            running=self._list.running(record.id),
        )

    def revoke(self, project_id: uuid.UUID) -> BaseResponse:
        with access_log.changing(project_id=str(project_id)):
            result = self._tokens.revoke_all(str(project_id))
        if result.failed:
            raise GatewayError(
                f"{result.failed:,} of {result.total:,} tokens may still be active: the store did not confirm the "
                "change. Revoke them again."
            )
        return flask.redirect(flask.url_for(".show", project_id=project_id, done="all-revoked"), 303)


def _nearest_budget(record: ProjectRecord) -> LimitStanding | None:
    """Return the budget of which the least is left, for its size."""
    budgets = [each for each in record.limits if each.kind == "usd"]
    return max(budgets, key=lambda each: (each.used + each.reserved) / each.limit, default=None)


def _form(values: forms.Texts, error: InvalidRequest | None, record: object = None) -> str:
    message = error and forms.in_labels(error.message, _FIELDS)
    return flask.render_template(
        "projects/form.html",
        values=values,
        message=message,
        project=record,
        name=forms.NAME,
        key=KEY,
        rules=forms.RULES,
    )
