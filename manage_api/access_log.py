"""The access log: one line a request, without the parts in which a client could send a secret.

It has no header, no body and no query. In the path tokens are masked, and other UUIDs that may be tokens sent to the
wrong path. What was created or changed is named by its public id.
"""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from urllib.parse import quote

import flask

from store.errors import OutcomeUnknown
from store.network.addresses import Network
from store.network.client_address import client_address
from store.runtime.redaction import mask_token_paths, mask_uuids

_LOG = logging.getLogger(__name__)

_REDIRECT, _FAILURE = 300, 400
"""From a redirect on, such as to the login, a UUID in the path of a project may be a token that is there by mistake."""


def register(app: flask.Flask, trusted_proxies: Sequence[Network]) -> None:
    """Log each request when it is answered: at level info; /health, /ready and scrapes at level debug.

    `flask.g.client` is the client's address from the beginning.
    """

    def start() -> None:
        flask.g.started = time.perf_counter()
        forwarded = flask.request.headers.get("X-Forwarded-For")
        flask.g.client = client_address(flask.request.remote_addr or "", forwarded, trusted_proxies)

    app.before_request(start)
    app.after_request(_log)


def changed(**public_ids: str) -> None:
    """Add the public ids of what this request created or changed to its line, in fields such as `token_id`."""
    flask.g.changed = public_ids


@contextlib.contextmanager
def changing(**public_ids: str) -> Iterator[None]:
    """Add the public ids of what the block changes to the line, unless it fails and has certainly changed nothing."""
    try:
        yield
    except OutcomeUnknown:
        changed(**public_ids)
        raise
    changed(**public_ids)


def _log(response: flask.Response) -> flask.Response:
    path = quote(flask.request.path)  # quoted: a path cannot forge a line
    if response.status_code >= _REDIRECT:
        path = mask_uuids(path)
    fields = {
        "client": flask.g.client,
        "method": flask.request.method,
        "path": mask_token_paths(path),
        "status": response.status_code,
        "duration_ms": round((time.perf_counter() - flask.g.started) * 1000, 1),
        **flask.g.get("changed", {}),
        "request_id": flask.g.request_id,
    }
    _LOG.log(_level(response.status_code), "request", extra=fields)
    return response


def _level(status: int) -> int:
    """Return the level of a request's line: that of a machine's regular question is debug."""
    is_regular = flask.request.path in {"/health", "/ready"} or (flask.request.path == "/metrics" and status < _FAILURE)
    return logging.DEBUG if is_regular else logging.INFO
