"""Request ids: how an operator, the log and whoever asks for help speak of one request."""

import uuid
from collections.abc import Mapping

import flask


def register(app: flask.Flask) -> None:
    """Give each request an id of ours before anything else; put it on the answer after everything else."""
    app.before_request(_assign)
    app.after_request(_show)


def new_id() -> str:
    """Return a new request id: a UUIDv4. Nothing that a client sends becomes one."""
    return str(uuid.uuid4())


def headers(request_id: str) -> Mapping[str, str]:
    """Return the headers that carry an id; on this port nobody else's id takes `X-Request-ID`."""
    return {"X-LLM-Proxy-Request-Id": request_id, "X-Request-ID": request_id}


def _assign() -> None:
    flask.g.request_id = new_id()


def _show(response: flask.Response) -> flask.Response:
    response.headers.update(headers(flask.g.request_id))
    return response
