"""The rules that decide on a request: no SQL, no event loop.

The requests of a batch are decided in the order of arrival; each admission changes what the next of the same token may
do. The order of the checks: the token, its project, their policies, then their limits. The first one that refuses is
reported.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from store.admission import policies
from store.admission.limits import Limit, MaxParallel, first_refusal, tightest
from store.admission.policies import OwnedPolicy, Unread
from store.encryption.crypto import DecryptionError
from store.errors import (
    GatewayError,
    InvalidToken,
    ProjectInactive,
    TokenExpired,
    TokenInactive,
    TokenRefused,
)
from store.limits.standing import LimitStanding
from store.limits.window import Standing
from store.policies.policy import policy
from store.request import Holder, Opened, Opening, Refused

_log = logging.getLogger(__name__)

_NO_POLICY = (None, None, None)


class TokenName(NamedTuple):
    """The name by which a request gives its token: the HMAC of its value, or (a replay) its public id."""

    column: Literal["lookup", "id"]
    value: str


class Claim(NamedTuple):
    """A request that asks to be admitted. One that `is_paid` has been counted already: no limit is checked."""

    name: TokenName
    opening: Opening
    is_paid: bool = False


class Probe:
    """Asks whether requests could be admitted now."""


class Release(NamedTuple):
    """A request that holds its slots no more; its settlement comes later."""

    opened: Opened


@dataclass(frozen=True, slots=True)
class Admitted:
    """An admitted request: it is counted, and may use this key once."""

    opened: Opened
    holder: Holder
    api_key: str = field(repr=False)
    window: Standing | None = None
    """Of its windows the one with the fewest requests left after this one."""
    shown_models: AbstractSet[str] | None = None
    """The models that the list of models may show it; None for all."""


class TokenStanding(NamedTuple):
    """A token as those who hold it are told. `expires_at` is in microseconds."""

    name: str | None
    expires_at: int
    max_requests: int
    request_count: int
    limits: Sequence[LimitStanding]
    project_limits: Sequence[LimitStanding]


class TokenRow(NamedTuple):
    """A token with its project, as read under their locks.

    A field `token_x` is column x of `token`, `project_x` that of `project`.
    """

    token_id: str
    token_lookup: str
    token_token_name: str | None
    token_is_active: bool
    token_expires_at: int
    token_request_count: int
    token_max_requests: int
    project_id: str
    project_name: str
    project_is_active: bool
    project_sealed_api_key: bytes
    token_allowed_models: str | None = None
    token_allowed_endpoints: str | None = None
    token_allowed_ips: str | None = None
    project_allowed_models: str | None = None
    project_allowed_endpoints: str | None = None
    project_allowed_ips: str | None = None

    @property
    def holder(self) -> Holder:
        """The token and its project, as operators know them."""
        return Holder(self.token_id, self.token_token_name, self.project_id, self.project_name)

    @property
    def policies(self) -> Sequence[OwnedPolicy]:
        """The policies of the token and of its project; none for most."""
        own = (self.token_allowed_models, self.token_allowed_endpoints, self.token_allowed_ips)
        of_project = (self.project_allowed_models, self.project_allowed_endpoints, self.project_allowed_ips)
        if own == of_project == _NO_POLICY:
            return ()
        return (OwnedPolicy("token", policy(*own)), OwnedPolicy("project", policy(*of_project)))


class TokenState(NamedTuple):
    """A token while a batch is decided: as it was read, and its limits with what the batch has counted.

    Tokens of one project share its balances.
    """

    row: TokenRow
    limits: Sequence[Limit]

    def opened(self, opening: Opening, now: int) -> Opened:
        """Return the row of a request that is admitted and has taken its slots."""
        row = self.row
        opened = Opened(opening.request_id, now, row.project_id, row.token_id, opening.endpoint)
        taken = [limit for limit in self.limits if isinstance(limit, MaxParallel)]
        if not taken or opening.session_id is not None:
            return opened
        slots = tuple([limit.balance_id for limit in taken])
        return opened._replace(slots=slots, is_awaited=any(limit.is_scarce for limit in taken))


class Batch:
    """Decides the claims of a batch at a time (microseconds).

    `open_api_key` decrypts the key of a project, by its id. Raises DecryptionError.
    """

    def __init__(
        self, tokens: Mapping[TokenName, TokenState], now: int, open_api_key: Callable[[str, bytes], str]
    ) -> None:
        self.admitted: list[tuple[Opening, Opened]] = []
        self._tokens = tokens
        self._now = now
        self._open_api_key = open_api_key
        self._api_keys: dict[str, str] = {}

    def decide(self, claim: Claim) -> Admitted | Unread | GatewayError | None:
        """Admit a claim and count it, or return the error that refuses it; None for a paid one that may go on.

        Unread: the models that it asks for have to be read first.
        """
        token = self._tokens.get(claim.name)
        if token is None:
            return InvalidToken()
        refusal = refusal_of(token.row, self._now) or _refusal(token, claim)
        if isinstance(refusal, Unread):
            return refusal
        if refusal is not None:
            refusal.refused = Refused(claim.opening, token.row.holder, self._now)
            return refusal
        return None if claim.is_paid else self._admit(token, claim.opening)

    def _admit(self, token: TokenState, opening: Opening) -> Admitted | GatewayError:
        row = token.row
        try:
            api_key = self._api_key(row)
        except DecryptionError:
            fault = f"The key of project {row.project_id} cannot be decrypted."
            _log.error("%s Replace it: PATCH the project's api_key.", fault)
            return GatewayError(fault)
        for limit in token.limits:
            limit.hit(opening)
        opened = token.opened(opening, self._now)
        self.admitted.append((opening, opened))
        shown = policies.shown_models(row.policies)
        return Admitted(opened, row.holder, api_key, tightest(token.limits), shown)

    def _api_key(self, row: TokenRow) -> str:
        if row.project_id not in self._api_keys:
            self._api_keys[row.project_id] = self._open_api_key(row.project_id, bytes(row.project_sealed_api_key))
        return self._api_keys[row.project_id]


def refusal_of(row: TokenRow, now: int) -> TokenRefused | None:
    """Return why a token may make no request at all, or None."""
    if not row.token_is_active:
        return TokenInactive()
    if row.token_expires_at <= now:
        return TokenExpired()
    if not row.project_is_active:
        return ProjectInactive()
    return None


def _refusal(token: TokenState, claim: Claim) -> TokenRefused | Unread | None:
    """Return why this request is refused to a token in good standing, or None; Unread if it has to be read first."""
    refusal = policies.refusal(token.row.policies, claim.opening)
    return refusal or (None if claim.is_paid else first_refusal(token.limits, claim.opening))
