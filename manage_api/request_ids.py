"""Request ids: the operator and the log name a request by its id. Nothing that a client sends becomes one."""

from collections.abc import Mapping

import flask

from store.ids import new_request_id


def register(app: flask.Flask) -> None:
    """Give each request an id before anything else runs; put it on the response after everything else."""
    app.before_request(_assign)
    app.after_request(_show)


def headers(request_id: str) -> Mapping[str, str]:
    """Return the headers that carry an id. Both have the same: no upstream of this port has an id of its own."""
    return {"X-LLM-Proxy-Request-Id": request_id, "X-Request-ID": request_id}


def _assign() -> None:
    flask.g.request_id = new_request_id()


def _show(response: flask.Response) -> flask.Response:
    response.headers.update(headers(flask.g.request_id))
    return response
