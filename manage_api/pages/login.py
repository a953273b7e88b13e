"""`/login` and `/logout`: an administrator's token becomes a session of the browser."""

import flask
from werkzeug.wrappers import Response as BaseResponse

from manage_api import auth
from manage_api.auth import Authentication
from manage_api.pages.gate import Gate, entered
from store.errors import TooManyWrongTokens, Unauthorized


def blueprint(authentication: Authentication, gate: Gate) -> flask.Blueprint:
    """Make the login and the logout."""
    routes = flask.Blueprint("login", __name__)

    @routes.get("/login")
    def form() -> BaseResponse | str:
        target = _local(flask.request.args.get("next", ""))
        if gate.find():
            return flask.redirect(target, 303)
        return flask.render_template("login.html", target=target, message=None)

    @routes.post("/login")
    def log_in() -> BaseResponse | tuple[str, int, dict[str, str]]:
        target = _local(flask.request.form.get("next", ""))
        token = flask.request.form.get("token", "").strip()
        try:
            admin = authentication.administrator(token)
        except (Unauthorized, TooManyWrongTokens) as error:
            page = flask.render_template("login.html", target=target, message=error.message)
            retry = {name: value for name, value in error.headers.items() if name == "Retry-After"}
            return page, error.status, retry
        auth.act_as(admin)
        former = gate.find()
        if former:
            gate.sessions.end(former.session)
        response = flask.redirect(target, 303)
        gate.set_cookie(response, gate.sessions.begin(admin, token, flask.g.client))
        return response

    @routes.post("/logout")
    def log_out() -> BaseResponse:
        gate.sessions.end(entered().session)
        response = flask.redirect(flask.url_for("pages.login.form"), 303)
        gate.delete_cookie(response)
        return response

    return routes


def _local(target: str) -> str:
    """Return a path of this server, or that of the overview: others could lead an administrator away after a login."""
    is_local = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if is_local else flask.url_for("pages.overview.index")
