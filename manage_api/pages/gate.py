"""Lets administrators in who have logged in: finds the session of the browser's cookie for each page."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import flask
from werkzeug.wrappers import Response as BaseResponse

from manage_api import auth
from manage_api.pages import protection
from store.errors import RoleNotAllowed
from store.management.admin_sessions import LONGEST, AdminSessions, Session
from store.management.admins import AdminRecord, Role
from store.network.addresses import Network
from store.network.client_address import reported_https

_COOKIE = "llm-proxy-session"
_SECURE_COOKIE = f"__Host-{_COOKIE}"
"""Browsers take a cookie of such a name by https alone, and from no other host (RFC 6265bis, section 4.1.3)."""

_OPEN = frozenset({"pages.static", "pages.login.form", "pages.login.log_in"})
"""The endpoints that need no session."""

_LOG_OUT = "pages.login.log_out"
"""The endpoint of the only form that viewers send too."""

RELOADS = "X-Reloads"
"""The header of a page that reloads itself: that is no use of the session, which would otherwise never end."""

RELOADED = ("live", "again")
"""The parameter, and its value, of a page that reloads itself without JavaScript."""


class _Entered(NamedTuple):
    session_id: str
    session: Session


class Gate:
    """Knows the session of a request. `trusted_proxies` may report that their client came by https."""

    def __init__(self, sessions: AdminSessions, trusted_proxies: Sequence[Network]) -> None:
        self.sessions = sessions
        self._trusted_proxies = trusted_proxies

    def require_session(self) -> BaseResponse | None:
        """Go on as the session's administrator, or return the way to the login. Raises RoleNotAllowed, FormRefused."""
        if flask.request.endpoint in _OPEN:
            return None
        found = self.find()
        if found is None:
            target = flask.request.full_path.rstrip("?") if flask.request.method in auth.READING else None
            return flask.redirect(flask.url_for("pages.login.form", next=target), 303)
        flask.g.entered = found
        begin = auth.act_as if flask.request.endpoint == _LOG_OUT else auth.begin
        begin(found.session.admin)
        if not may_write() and flask.request.method in auth.READING and _is_form():
            raise RoleNotAllowed
        protection.require_own_form(self.sessions, found.session_id)
        return None

    def find(self) -> _Entered | None:
        """Return the session of the cookie, if it works."""
        session_id = flask.request.cookies.get(self._cookie())
        name, value = RELOADED
        is_use = RELOADS not in flask.request.headers and flask.request.args.get(name) != value
        session = self.sessions.find(session_id, is_use=is_use) if session_id else None
        return _Entered(cast("str", session_id), session) if session else None

    def set_cookie(self, response: BaseResponse, session_id: str) -> None:
        """Have the browser send a session's id with each request to a page."""
        longest = LONGEST // 1_000_000
        is_secure = self.is_https()
        response.set_cookie(
            self._cookie(), session_id, max_age=longest, secure=is_secure, httponly=True, samesite="Strict", path="/"
        )

    def delete_cookie(self, response: BaseResponse) -> None:
        """Have the browser forget the session."""
        response.delete_cookie(self._cookie(), secure=self.is_https(), httponly=True, samesite="Strict", path="/")

    def _cookie(self) -> str:
        return _SECURE_COOKIE if self.is_https() else _COOKIE

    def is_https(self) -> bool:
        """Tell whether the browser came by https, as a trusted proxy reports it."""
        protocol = flask.request.headers.get("X-Forwarded-Proto")
        return reported_https(flask.request.remote_addr or "", protocol, self._trusted_proxies)


def _is_form() -> bool:
    """Tell whether this is the page of a form that sends to its own address."""
    rule, rules = flask.request.url_rule, flask.current_app.url_map.iter_rules()
    return rule is not None and any("POST" in (each.methods or ()) for each in rules if each.rule == rule.rule)


def entered() -> _Entered:
    """Return the session of this request."""
    return cast("_Entered", flask.g.entered)


def administrator() -> AdminRecord:
    """Return the administrator who sent this request."""
    return entered().session.admin


def may_write() -> bool:
    """Tell whether the administrator may change anything; a viewer sees no button that would fail."""
    return administrator().role == Role.ADMIN


def require_writer() -> None:
    """Raise RoleNotAllowed for a viewer's page whose form would fail."""
    if not may_write():
        raise RoleNotAllowed
