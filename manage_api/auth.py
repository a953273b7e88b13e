"""Who may manage: the holder of the management token, and nobody else learns anything about `/manage`."""

import hmac

import flask

from store.errors import Unauthorized


def register(app: flask.Flask, management_token: str) -> None:
    """Ask for the management token on every path of `/manage`, known or unknown. Raises Unauthorized."""

    def authenticate() -> None:
        if is_management(flask.request.path) and not _holds(flask.request, management_token):
            raise Unauthorized

    app.before_request(authenticate)


def is_management(path: str) -> bool:
    """Tell whether a path belongs to the management API proper."""
    return path == "/manage" or path.startswith("/manage/")


def _holds(request: flask.Request, management_token: str) -> bool:
    # Repeated headers arrive joined by a comma, which no token has: they match nothing.
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    token = text.strip(" ")
    if scheme.lower() != "bearer" or not token:
        return False
    # Bytes, as compare_digest takes no other text than ASCII.
    return hmac.compare_digest(token.encode(), management_token.encode())
