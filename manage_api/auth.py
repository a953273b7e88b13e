"""The management token: without it nothing of `/manage` is told, but how to get it right."""

import hmac

import flask

from store.encryption.keyfiles import MANAGEMENT_TOKEN_FILE
from store.errors import Unauthorized

_OTHER_SCHEME = f"The Authorization header does not have the scheme Bearer. {Unauthorized.text}"
_WRONG = (
    "The management token is wrong. The right one is the setting MANAGEMENT_TOKEN or, where that is not set, in the "
    f"file {MANAGEMENT_TOKEN_FILE} in DATA_DIR."
)


def register(app: flask.Flask, management_token: str) -> None:
    """Ask for the management token on every path of `/manage`, known or unknown. Raises Unauthorized."""

    def authenticate() -> None:
        if is_management(flask.request.path):
            _require(flask.request.headers.get("Authorization", ""), management_token)

    app.before_request(authenticate)


def is_management(path: str) -> bool:
    """Tell whether a path belongs to the management API proper."""
    return path == "/manage" or path.startswith("/manage/")


def _require(header: str, management_token: str) -> None:
    # Repeated headers arrive joined by a comma, which no token has: they match nothing.
    scheme, _, text = header.partition(" ")
    token = text.strip(" ")
    if header and scheme.lower() != "bearer":
        raise Unauthorized(_OTHER_SCHEME)
    if not token:
        raise Unauthorized
    # Bytes, as compare_digest takes no other text than ASCII.
    if not hmac.compare_digest(token.encode(), management_token.encode()):
        raise Unauthorized(_WRONG)
