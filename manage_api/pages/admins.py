"""`/admins`: administrators and their sessions in browsers.

A viewer sees who there is, and of sessions its own alone: where others are is not needed to read the gateway's figures.
"""

import uuid
from collections.abc import Callable

import flask
from werkzeug.wrappers import Response as BaseResponse

from manage_api import access_log, bodies
from manage_api.pages import forms, gate, protection
from store.errors import Conflict, GatewayError, InvalidRequest, NotFound
from store.management.admin_sessions import AdminSessions, SessionRecord
from store.management.admins import ROOT_ID, AdminRecord, Admins, Role
from store.store import Store

_NAME = forms.Field(
    "name", "Name", "1 to 64 letters, digits and any of . _ @ + -, such as ann or backup-job. The audit shows it."
)
_ROLE = forms.Field("role", "Role", "An admin may do everything. A viewer reads all but tokens, and changes nothing.")


def blueprint(store: Store, sessions: AdminSessions) -> flask.Blueprint:
    """Make the pages of a store's administrators."""
    pages = _Pages(store, sessions)
    routes = flask.Blueprint("admins", __name__, url_prefix="/admins")
    routes.get("")(pages.index)
    routes.get("/new")(pages.new)
    routes.post("/new")(pages.create)
    routes.get("/<uuid:admin_id>")(pages.show)
    routes.get("/<uuid:admin_id>/delete")(pages.confirm_delete)
    routes.post("/<uuid:admin_id>/delete")(pages.delete)
    routes.get("/<uuid:admin_id>/disable")(pages.confirm_disable)
    routes.post("/<uuid:admin_id>/disable")(pages.disable)
    routes.post("/<uuid:admin_id>/enable")(pages.enable)
    routes.post("/<uuid:admin_id>/log-out")(pages.log_out)
    routes.post("/<uuid:admin_id>/end-session")(pages.end_session)
    return routes


class _Pages:
    def __init__(self, store: Store, sessions: AdminSessions) -> None:
        self._admins = Admins(store)
        self._sessions = sessions

    def index(self) -> str:
        sessions = self._sessions.list()
        admins = self._admins.list()
        of_each = {each.id: [one for one in sessions if one.admin_id == each.id] for each in admins}
        return flask.render_template("admins/index.html", admins=admins, sessions=of_each)

    def new(self) -> str:
        return _form({"role": Role.VIEWER}, None)

    def create(self) -> BaseResponse | str | tuple[str, int]:
        form = flask.request.form
        protection.require_first_time(self._sessions, gate.entered().session)
        try:
            body = {"name": form.get("name", "").strip(), "role": form.get("role", "")}
            bodies.check("AdminRequest", body)
            record, token = self._admins.create(body["name"], Role(body["role"]))
        except (InvalidRequest, Conflict) as error:
            return _form(form, error), error.status
        access_log.changed(admin_id=record.id)
        return flask.render_template("admins/created.html", admin=record, token=token)

    def show(self, admin_id: uuid.UUID) -> str:
        return self._shown(self._found(admin_id))

    def confirm_delete(self, admin_id: uuid.UUID) -> str:
        return self._confirm(self._found(admin_id), "delete")

    def delete(self, admin_id: uuid.UUID) -> BaseResponse | tuple[str, int]:
        return self._change(admin_id, self._admins.delete, "deleted")

    def confirm_disable(self, admin_id: uuid.UUID) -> str:
        return self._confirm(self._found(admin_id), "disable")

    def disable(self, admin_id: uuid.UUID) -> BaseResponse | tuple[str, int]:
        return self._change(admin_id, self._admins.disable, "admin-disabled")

    def enable(self, admin_id: uuid.UUID) -> BaseResponse | tuple[str, int]:
        return self._change(admin_id, self._admins.enable, "admin-enabled")

    def log_out(self, admin_id: uuid.UUID) -> BaseResponse | tuple[str, int]:
        found = self._found(admin_id)
        return self._change(admin_id, lambda _: self._sessions.end_all(found), "logged-out")

    def end_session(self, admin_id: uuid.UUID) -> BaseResponse | tuple[str, int]:
        found, session = self._found(admin_id), flask.request.form.get("session", "")
        return self._change(admin_id, lambda _: self._sessions.end_of(found, session), "session-ended")

    def _found(self, admin_id: uuid.UUID) -> AdminRecord:
        for each in self._admins.list():
            if each.id == str(admin_id):
                return each
        raise NotFound("There is no such administrator.")

    def _change(
        self, admin_id: uuid.UUID, change: Callable[[str], object], done: str
    ) -> BaseResponse | tuple[str, int]:
        """Change an administrator, or show why that is refused."""
        try:
            with access_log.changing(admin_id=str(admin_id)):
                change(str(admin_id))
        except Conflict as error:
            return self._shown(self._found(admin_id), error), error.status
        is_gone = done == "deleted"
        target = flask.url_for(".index", done=done) if is_gone else flask.url_for(".show", admin_id=admin_id, done=done)
        return flask.redirect(target, 303)

    def _shown(self, found: AdminRecord, error: GatewayError | None = None) -> str:
        return flask.render_template(
            "admins/show.html",
            admin=found,
            sessions=self._of(found),
            this_session=gate.entered().session.lookup,
            root_id=ROOT_ID,
            message=error and error.message,
        )

    def _of(self, found: AdminRecord) -> list[SessionRecord]:
        """Return the sessions of an administrator that this one may see."""
        if not gate.may_write() and found.id != gate.administrator().id:
            return []
        return [each for each in self._sessions.list() if each.admin_id == found.id]

    def _confirm(self, found: AdminRecord, action: str) -> str:
        return flask.render_template(
            "admins/confirm.html", admin=found, action=action, number_of_sessions=len(self._of(found))
        )


def _form(values: forms.Texts, error: GatewayError | None) -> str:
    message = error and forms.in_labels(error.message, (_NAME, _ROLE))
    return flask.render_template(
        "admins/form.html", values=values, message=message, name=_NAME, role=_ROLE, roles=[*Role]
    )
