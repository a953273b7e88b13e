"""Authentication of `/manage` by the management token."""

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
    """Require the management token on every path of `/manage`, known or unknown. Raises Unauthorized."""

    def authenticate() -> None:
        if is_management(flask.request.path):
            _require(flask.request.headers.get("Authorization", ""), management_token)

    app.before_request(authenticate)


def is_management(path: str) -> bool:
    """Tell whether a path belongs to the management API proper."""
    return path in {"/manage", "/metrics"} or path.startswith("/manage/")


def _require(header: str, management_token: str) -> None:
    # Repeated headers arrive joined by a comma. No token has one, so they never match.
    scheme, _, text = header.partition(" ")
    token = text.strip(" ")
    if header and scheme.lower() != "bearer":
        raise Unauthorized(_OTHER_SCHEME)
    if not token:
        raise Unauthorized
    # Bytes: compare_digest takes text in ASCII only.
    if not hmac.compare_digest(token.encode(), management_token.encode()):
        raise Unauthorized(_WRONG)
