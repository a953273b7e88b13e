"""`/tokens`: tokens. An address holds a token's public id alone; its value is shown once, to those who made it."""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace

import flask
from werkzeug.wrappers import Response as BaseResponse

from manage_api import access_log, bodies
from manage_api.pages import filters, forms, presets, protection, proxy_address, recent_usage
from manage_api.pages.gate import Gate, entered, require_writer
from store import clock
from store.clock import DAY
from store.errors import GatewayError, InvalidRequest, NotFound
from store.management import names
from store.management.tokens import UNREADABLE, TokenRecord, Tokens
from store.reports import token_list
from store.reports.token_list import Order, State, TokenFilter, TokenList
from store.reports.usage_query import UsageFilter
from store.reports.usage_report import UsageReports
from store.store import Store

STATES: Mapping[State, str] = {
    State.WORKING: "working",
    State.EXPIRING: "expires within 7 days",
    State.EXPIRED: "expired",
    State.REVOKED: "revoked",
}

_PARAMETERS = ("q", "project_id", "state")

_GRACES: Sequence[tuple[int, str]] = (
    (0, "at once"),
    (3600, "after an hour"),
    (24 * 3600, "after a day"),
    (7 * 24 * 3600, "after 7 days"),
    (30 * 24 * 3600, "after 30 days"),
)
"""When the value before ends, in seconds and in words."""

_EXTENSIONS = (30, 90)
"""Days that a button adds."""

_CHANGED = (forms.NAME, forms.EXPIRES, forms.MAX_REQUESTS, *forms.RULES)
_PROJECT = forms.Field("project_id", "Project", "")
_CREATED = (_PROJECT, *_CHANGED)

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MOST_PASTED = 20
"""Values that are looked for in a text at most."""


def blueprint(store: Store, gate: Gate, proxy_port: int) -> flask.Blueprint:
    """Make the pages of a store's tokens."""
    pages = _Pages(store, gate, proxy_port)
    routes = flask.Blueprint("tokens", __name__, url_prefix="/tokens")
    routes.get("")(pages.index)
    routes.post("/find")(pages.find)
    routes.get("/new")(pages.new)
    routes.post("/new")(pages.create)
    routes.get("/revoke")(pages.confirm_revoke)
    routes.post("/revoke")(pages.revoke)
    routes.get("/<uuid:token_id>")(pages.show)
    routes.get("/<uuid:token_id>/edit")(pages.edit)
    routes.post("/<uuid:token_id>/edit")(pages.update)
    routes.post("/<uuid:token_id>/extend")(pages.extend)
    routes.post("/<uuid:token_id>/restore")(pages.restore)
    routes.get("/<uuid:token_id>/rotate")(pages.confirm_rotate)
    routes.post("/<uuid:token_id>/rotate")(pages.rotate)
    return routes


class _Pages:
    def __init__(self, store: Store, gate: Gate, proxy_port: int) -> None:
        self._store = store
        self._gate = gate
        self._sessions = gate.sessions
        self._proxy_port = proxy_port
        self._tokens = Tokens(store)
        self._list = TokenList(store)
        self._reports = UsageReports(store)

    def index(self) -> BaseResponse | str:
        search = filters.text("q")
        state = filters.choice("state", "State", tuple(State))
        order = Order(filters.choice("sort", "Order", tuple(Order)) or Order.CREATED)
        descending = flask.request.args.get("order", "desc" if order == Order.CREATED else "asc") == "desc"
        as_id = search and filters.as_uuid(search)
        if as_id and (public_id := self._tokens.public_id(as_id)) != as_id:
            # The value of a token must not stay in an address.
            return flask.redirect(flask.url_for(".show", token_id=public_id), 303)
        about = TokenFilter(as_id or search, filters.project_id(), State(state) if state else None)
        number = filters.number("page", "Page", 1, 10**6) or 1
        page = self._list.page(about, order, descending=descending, number=number)
        return self._index(page=page, order=order, descending=descending)

    def find(self) -> BaseResponse | tuple[str, int]:
        pasted = flask.request.form.get("value", "").lower()
        for value in _UUID.findall(pasted)[:_MOST_PASTED]:
            public_id = self._tokens.public_id(value)
            if self._list.of_ids([public_id]):
                return flask.redirect(flask.url_for(".show", token_id=public_id, done="found"), 303)
        message = (
            "No token has this value: it was never made here, was replaced and its grace is over, or was deleted with "
            "its project."
        )
        page = self._list.page(TokenFilter())
        return self._index(page=page, order=Order.CREATED, descending=True, message=message), NotFound.status

    def new(self) -> str:
        require_writer()
        preset = flask.request.args.get("preset", "")
        values = {**presets.texts(preset), "project_id": filters.project_id() or ""}
        return self._form(values, None, preset=preset)

    def create(self) -> str | tuple[str, int]:
        form = flask.request.form
        try:
            body = forms.body(_CREATED, form)
            if not body["project_id"]:
                raise InvalidRequest("Choose a project.")
            bodies.check("TokenRequest", body)
            protection.require_first_time(self._sessions, entered().session)
            record = bodies.create_token(self._tokens, body)
        except GatewayError as error:
            if error.status >= 500:  # noqa: PLR2004 - a fault, not the form's
                raise
            return self._form(form, error), error.status
        access_log.changed(token_id=record.id)
        return self._value(record)

    def show(self, token_id: uuid.UUID) -> str:
        return self._show(self._get(token_id))

    def edit(self, token_id: uuid.UUID) -> str:
        require_writer()
        record = self._get(token_id)
        return self._form(_texts(record), None, record)

    def update(self, token_id: uuid.UUID) -> BaseResponse | tuple[str, int]:
        record, form = self._get(token_id), flask.request.form
        try:
            self._change(record, forms.body(_CHANGED, form))
        except InvalidRequest as error:
            return self._form(form, error, record), error.status
        return _back(record.id, "changed")

    def extend(self, token_id: uuid.UUID) -> BaseResponse | tuple[str, int]:
        record, form = self._get(token_id), flask.request.form
        try:
            if "days" in form:
                text = _later(record, form["days"])
                protection.require_first_time(self._sessions, entered().session)
            else:
                text = form.get("expires_at", "")
            self._change(record, forms.body([forms.EXPIRES], {"expires_at": text}))
        except InvalidRequest as error:
            return self._show(record, forms.in_labels(error.message, _CHANGED)), error.status
        return _back(record.id, "changed")

    def restore(self, token_id: uuid.UUID) -> BaseResponse:
        record = self._get(token_id)
        self._change(record, {"is_active": True})
        return _back(record.id, "restored")

    def confirm_rotate(self, token_id: uuid.UUID) -> str:
        require_writer()
        record = self._get(token_id)
        running = self._list.running(record.project_id).get(record.id, 0)
        return flask.render_template("tokens/rotate.html", token=record, graces=_GRACES, running=running)

    def rotate(self, token_id: uuid.UUID) -> str:
        record = self._get(token_id)
        grace = forms.body([_GRACE], flask.request.form)
        bodies.check("TokenRotateRequest", grace)
        protection.require_first_time(self._sessions, entered().session)
        with access_log.changing(token_id=record.id):
            rotated = self._tokens.rotate(record.id, int(str(grace["grace_seconds"])))
        return self._value(rotated, is_rotated=True)

    def confirm_revoke(self) -> str:
        require_writer()
        selected = self._list.of_ids(_selected(flask.request.args.getlist("id")))
        return flask.render_template(
            "tokens/revoke.html",
            tokens=[token for token in selected if token.state != State.REVOKED],
            revoked=[token for token in selected if token.state == State.REVOKED],
            running=self._list.running(),
        )

    def revoke(self) -> BaseResponse:
        ids = [token.id for token in self._list.of_ids(_selected(flask.request.form.getlist("id")))]
        revoked: list[str] = []
        for token_id in ids:
            with access_log.changing(token_ids=",".join([*revoked, token_id])):
                self._tokens.revoke(token_id)
            revoked.append(token_id)
        if len(ids) == 1:
            return _back(ids[0], "revoked")
        return flask.redirect(flask.url_for(".index", done="revoked"), 303)

    def _get(self, token_id: uuid.UUID) -> TokenRecord:
        """Return the token of a public id, without its value. Raises NotFound, for the value of a token too."""
        record = self._tokens.get(self._list.get(str(token_id)).id)
        return replace(record, value=UNREADABLE)

    def _change(self, record: TokenRecord, body: bodies.Body) -> None:
        bodies.check("TokenUpdateRequest", body)
        with access_log.changing(token_id=record.id):
            self._tokens.update(record.id, bodies.token_changes(body))

    def _choices(self) -> Sequence[tuple[str, str]]:
        """Return the ids and names of projects, to choose one."""
        with self._store.database.read():
            projects = names.of_present_projects(self._store.database)
        return filters.choices(self._store, projects)

    def _index(self, **variables: object) -> str:
        return flask.render_template(
            "tokens/index.html",
            given=filters.present(*_PARAMETERS),
            choices=self._choices(),
            states=STATES,
            **{"message": None, **variables},
        )

    def _show(self, record: TokenRecord, message: str | None = None) -> str:
        row = self._list.get(record.id)
        return flask.render_template(
            "tokens/show.html",
            token=record,
            row=row,
            message=message,
            expires=forms.EXPIRES,
            extensions=() if record.expires_at >= clock.NEVER else _EXTENSIONS,
            usage=recent_usage.read(self._reports, UsageFilter(project_id=record.project_id, token_id=record.id)),
            running=self._list.running(record.project_id).get(record.id, 0),
        )

    def _form(
        self, values: forms.Texts, error: GatewayError | None, record: TokenRecord | None = None, preset: str = ""
    ) -> str:
        return flask.render_template(
            "tokens/form.html",
            values=values,
            message=error and forms.in_labels(error.message, _CREATED),
            token=record,
            choices=self._choices(),
            presets=presets.PRESETS,
            preset=preset,
            name=forms.NAME,
            expires=forms.EXPIRES,
            max_requests=forms.MAX_REQUESTS,
            rules=forms.RULES,
        )

    def _value(self, record: TokenRecord, *, is_rotated: bool = False) -> str:
        return flask.render_template(
            "tokens/value.html",
            token=record,
            is_rotated=is_rotated,
            base_url=proxy_address.base_url(self._gate, self._proxy_port),
        )


def _seconds(text: str) -> int:
    if text not in {str(seconds) for seconds, _ in _GRACES}:
        raise ValueError("no choice of the form")
    return int(text)


_GRACE = forms.Field("grace_seconds", "The value before ends", "", _seconds, "one of the choices", is_required=True)


def _texts(record: TokenRecord) -> dict[str, str]:
    return {
        **forms.texts_of(record),
        "max_requests": str(record.max_requests or ""),
        "expires_at": "never" if record.expires_at >= clock.NEVER else clock.to_rfc3339(record.expires_at),
    }


def _later(record: TokenRecord, days: str) -> str:
    """Return a time some days after a token's end, or after now where that is past."""
    if days not in {str(each) for each in _EXTENSIONS}:
        raise InvalidRequest("The days must be one of the choices.")
    return clock.to_rfc3339(min(max(record.expires_at, clock.now()) + int(days) * DAY, clock.NEVER))


def _selected(ids: Sequence[str]) -> Sequence[str]:
    """Return the ids of a selection. Raises InvalidRequest over a page of the list."""
    if len(ids) > token_list.PAGE_SIZE:
        raise InvalidRequest(f"Select {token_list.PAGE_SIZE} tokens at most.")
    return ids


def _back(token_id: str, done: str) -> BaseResponse:
    return flask.redirect(flask.url_for(".show", token_id=token_id, done=done), 303)
