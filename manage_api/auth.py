"""Authentication of `/manage` by the token of an administrator, and the rights of the administrator's role.

The one place that decides both, for all paths, known or unknown. Each request asks the store, so that an administrator
who was deleted or disabled is refused at once on all nodes.
"""

import hmac

import flask

from manage_api.wrong_tokens import WrongTokens
from store.encryption.keyfiles import MANAGEMENT_TOKEN_FILE
from store.errors import RoleNotAllowed, Unauthorized
from store.management import audit
from store.management.admins import AdminRecord, Admins, Role
from store.management.audit import Origin
from store.store import Store

_OTHER_SCHEME = f"The Authorization header does not have the scheme Bearer. {Unauthorized.text}"
_WRONG = (
    "The management token is wrong. The right one is an administrator's or, for root, the setting MANAGEMENT_TOKEN or, "
    f"where that is not set, in the file {MANAGEMENT_TOKEN_FILE} in DATA_DIR."
)
_ROOT_DISABLED = (
    "The administrator root is disabled: send the token of another one. The command 'admin enable root' enables it."
)

READING = frozenset({"GET", "HEAD"})
"""The methods of requests that change nothing."""


class Authentication:
    """Finds the administrator of a token. `management_token` is that of `root`."""

    def __init__(self, store: Store, management_token: str) -> None:
        self._admins = Admins(store)
        self._management_token = management_token.encode()
        self._wrong = WrongTokens()

    def administrator(self, token: str) -> AdminRecord:
        """Return the enabled administrator of a token, and count a wrong one.

        Raises Unauthorized, TooManyWrongTokens, StoreUnavailable.
        """
        # Bytes: compare_digest takes text in ASCII only.
        is_root = hmac.compare_digest(token.encode(), self._management_token)
        admin = self._admins.root() if is_root else self._admins.of_token(token)
        if admin is None or not admin.is_active:
            self._wrong.count(flask.g.client)
            raise Unauthorized(_ROOT_DISABLED if is_root else _WRONG)
        return admin


def register(app: flask.Flask, authentication: Authentication) -> None:
    """Require the token of an administrator on every path of `/manage`, and the role admin for all that is not read.

    Raises Unauthorized, TooManyWrongTokens, RoleNotAllowed, StoreUnavailable.
    """

    def authenticate() -> None:
        if is_management(flask.request.path):
            begin(authentication.administrator(_token(flask.request.headers.get("Authorization", ""))))

    app.before_request(authenticate)
    app.teardown_request(lambda _: audit.begin(audit.UNKNOWN))  # the thread goes on to other requests


def begin(admin: AdminRecord) -> None:
    """Go on with the request as an administrator's. Raises RoleNotAllowed for a viewer's that is none of reading."""
    if admin.role != Role.ADMIN and flask.request.method not in READING:
        raise RoleNotAllowed
    act_as(admin)


def act_as(admin: AdminRecord) -> None:
    """Record the changes of the request as an administrator's, whatever the role."""
    flask.g.role = admin.role
    audit.begin(Origin(admin.name, flask.g.client, flask.g.request_id))


def is_management(path: str) -> bool:
    """Tell whether a path belongs to the management API proper."""
    return path in {"/manage", "/metrics"} or path.startswith("/manage/")


def may_see_tokens() -> bool:
    """Tell whether the administrator may see the values of tokens: with one, all that it may do could be done."""
    return bool(flask.g.role == Role.ADMIN)


def _token(header: str) -> str:
    """Return the token of a header. Raises Unauthorized."""
    # Repeated headers arrive joined by a comma. No token has one, so they never match.
    scheme, _, text = header.partition(" ")
    token = text.strip(" ")
    if header and scheme.lower() != "bearer":
        raise Unauthorized(_OTHER_SCHEME)
    if not token:
        raise Unauthorized
    return token
