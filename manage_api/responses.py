"""HTTP responses that more than one resource gives."""

import flask


def no_content() -> flask.Response:
    """Return a 204. It has no body, and so no Content-Type."""
    response = flask.Response(status=204)
    del response.headers["Content-Type"]
    return response
