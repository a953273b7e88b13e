"""Protects administrators' browsers: only our own pages send forms here, and no page of others shows ours.

A form carries a mark, a random text of its own, and the proof that the mark was made for this session. Beside that
browsers tell where a form comes from (Fetch Metadata; RFC 6454, the header Origin), which holds for the login too.
"""

import hmac
import secrets

import flask

from manage_api import responses
from manage_api.auth import READING
from manage_api.contract import MAX_BODY
from store.errors import FormRefused, FormRepeated, RequestTooLarge
from store.management.admin_sessions import AdminSessions, Session
from store.network.addresses import split_url

FIELD = "form"
"""The field of a form that holds its mark and its proof."""

MAX_LOGIN = 16 * 1024
"""Bytes of the form of the login at most: anyone may send it. Those of other forms are MAX_BODY."""

_MARK_BYTES = 12

_HEADERS = {
    **responses.OWN_PAGE,
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
}


def require_own_page(*, is_https: bool) -> None:
    """Raise FormRefused where a browser says that a form comes from elsewhere, RequestTooLarge for a large one."""
    if flask.request.method in READING:
        return
    site = flask.request.headers.get("Sec-Fetch-Site")
    if site not in {None, "same-origin"} or (site is None and not _is_own(is_https=is_https)):
        raise FormRefused
    limit = MAX_LOGIN if flask.request.endpoint == "pages.login.log_in" else MAX_BODY
    if (flask.request.content_length or 0) > limit:
        raise RequestTooLarge
    flask.request.max_form_memory_size = limit  # the library's own is less


def _is_own(*, is_https: bool) -> bool:
    """Tell whether the header Origin names this server; `null` and a text that is no URL do not."""
    origin = split_url(flask.request.headers.get("Origin", ""))
    if origin is None or not origin.netloc:
        return False
    return origin.netloc == flask.request.host and origin.scheme in ({"https"} if is_https else {"http", "https"})


def new_field(sessions: AdminSessions, session_id: str) -> str:
    """Return the value of FIELD for a new form of a session."""
    mark = secrets.token_urlsafe(_MARK_BYTES)
    return f"{mark}.{sessions.mark_of(session_id, mark)}"


def require_own_form(sessions: AdminSessions, session_id: str) -> None:
    """Raise FormRefused for a form that was not made for a session."""
    if flask.request.method in READING:
        return
    mark, _, proof = flask.request.form.get(FIELD, "").partition(".")
    if not hmac.compare_digest(proof.encode(), sessions.mark_of(session_id, mark).encode()):
        raise FormRefused


def require_first_time(sessions: AdminSessions, session: Session) -> None:
    """Raise FormRepeated where this form was the last one that was sent: its result cannot be shown again."""
    if not sessions.accept_form(session, flask.request.form[FIELD].partition(".")[0]):
        raise FormRepeated


def add_headers(response: flask.Response) -> flask.Response:
    """Put onto a response what browsers must not do with it, and that they keep no page."""
    response.headers.update(_HEADERS)
    if flask.request.endpoint != f"{flask.request.blueprint}.static":
        response.headers["Cache-Control"] = "no-store"
    return response
