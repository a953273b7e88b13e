"""The rules that decide on a request: no SQL, no event loop.

The requests of a batch are decided in the order of arrival; each admission changes what the next of the same token may
do. The order of the checks: the token, its project, their policies, then their limits. The first one that refuses is
reported.
"""

import functools
import logging
from collections.abc import Callable, Container, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from store.admission import policies
from store.admission.limits import (
    Asked,
    Headroom,
    Limit,
    MaxParallel,
    RequestsInWindow,
    Reserving,
    first_refusal,
    left_of,
    reserved,
    tightest,
)
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
from store.limits.bound import NOTHING_USED, Bounds
from store.limits.holds import Slot
from store.limits.standing import LimitStanding
from store.limits.window import Standing
from store.management.previous_values import working_until
from store.policies.policy import policy
from store.request import Amounts, Holder, Opened, Opening, Reading, Refused

_log = logging.getLogger(__name__)

_NO_POLICY = (None, None, None)


class TokenName(NamedTuple):
    """The name by which a request gives its token: the HMAC of a value, or (a replay) its public id."""

    column: Literal["lookup", "id"]
    value: str


@dataclass(slots=True, eq=False)
class Claim:
    """A request that asks to be admitted. One that `is_paid` has been counted already: no request is counted.

    `extends` is its row then, if it may reserve more for that.
    """

    name: TokenName
    opening: Opening
    is_paid: bool = False
    extends: Opened | None = None

    def keep(self, reading: Reading) -> None:
        """Keep the reading of its request."""
        self.opening = self.opening.read_as(reading)


class Growth(NamedTuple):
    """A request under way that outgrows what it has reserved, by some amounts."""

    opened: Opened
    more: Amounts


class Extended(NamedTuple):
    """A request that has reserved more; where `is_full`, all that there was, and less than it needs."""

    opened: Opened
    bounds: Bounds = NOTHING_USED
    is_full: bool = False
    is_past: bool = False
    """True for a row that is older than a limit, or than its period: nothing more is reserved for it."""


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
    windows: Sequence[Standing] = ()
    """Of its windows of requests, and of tokens, those with the least left after this one."""
    shown_models: Container[str] | None = None
    """The models that the list of models may show it; None for all."""
    bounds: Bounds | None = None
    """The most that it may use, where a limit has reserved that."""
    lookup: str = field(default="", repr=False)
    """The HMAC of the value that it came with; empty for a replay."""


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
    token_previous_lookup: str | None = None
    token_previous_expires_at: int | None = None

    @property
    def holder(self) -> Holder:
        """The token and its project, as operators know them."""
        return Holder(self.token_id, self.token_token_name, self.project_id, self.project_name)

    def lookups(self, now: int) -> Sequence[str]:
        """Return the HMACs of the values that name the token at a time: also of the previous one, while that works."""
        previous, until = self.token_previous_lookup, self.token_previous_expires_at
        if previous is None or working_until(until, self.token_expires_at, now) is None:
            return (self.token_lookup,)
        return (self.token_lookup, previous)

    @property
    def policies(self) -> Sequence[OwnedPolicy]:
        """The policies of the token and of its project; none for most."""
        own = (self.token_allowed_models, self.token_allowed_endpoints, self.token_allowed_ips)
        of_project = (self.project_allowed_models, self.project_allowed_endpoints, self.project_allowed_ips)
        if own == of_project == _NO_POLICY:
            return ()
        return (OwnedPolicy("token", policy(*own)), OwnedPolicy("project", policy(*of_project)))


@dataclass
class TokenState:
    """A token while a batch is decided: as it was read, and its limits with what the batch has counted.

    Tokens of one project share its balances. Most of a batch are requests of few tokens, so that what is the same for
    all of them is found once.
    """

    row: TokenRow
    others: Sequence[Limit]
    """The limits that reserve nothing."""
    headroom: Headroom | None = None
    """The headroom of those that reserve amounts; None without such limits."""
    all_limits: Callable[[], Sequence[Limit]] | None = None
    """Returns both in the order of the checks; None where the others are all."""

    @functools.cached_property
    def policies(self) -> Sequence[OwnedPolicy]:
        """The policies of the token and of its project."""
        return self.row.policies

    @functools.cached_property
    def holder(self) -> Holder:
        """The token and its project, as operators know them."""
        return self.row.holder

    @functools.cached_property
    def limits(self) -> Sequence[Limit]:
        """All limits, in the order of the checks."""
        return self.others if self.all_limits is None else self.all_limits()

    @functools.cached_property
    def reserving(self) -> Sequence[Reserving]:
        """The limits that reserve an amount for a request."""
        return [limit for limit in self.limits if isinstance(limit, Reserving)]

    @property
    def has_budget(self) -> bool:
        """True if a budget limits it."""
        return self.headroom is not None and self.headroom.has_budget

    @functools.cached_property
    def begins_at(self) -> int:
        """The earliest time of a request for which all of these hold something."""
        return max((limit.begins_at for limit in self.reserving), default=0)

    @functools.cached_property
    def _parallel(self) -> Sequence[MaxParallel]:
        return [limit for limit in self.others if isinstance(limit, MaxParallel)]

    @functools.cached_property
    def _request_windows(self) -> Sequence[RequestsInWindow]:
        return [limit for limit in self.others if isinstance(limit, RequestsInWindow)]

    def ask(self, opening: Opening, now: int, bounds: Bounds | None, usual_output: int) -> Asked | TokenRefused:
        """Return a request with what it reserves, if all limits let it pass, or the refusal of the first."""
        if self.headroom is None or bounds is None:
            asked = Asked(opening, now)
            return first_refusal(self.limits, asked) or asked
        amounts = self.headroom.reserve(bounds, usual_output)
        if amounts is not None:
            asked = Asked(opening, now, amounts, is_in_headroom=True)
            if first_refusal(self.others, asked) is None:
                return asked
        self.headroom.hold()
        at = self._moment(now)
        asked = Asked(opening, at, reserved(bounds, usual_output, left_of(self.reserving)))
        return first_refusal(self.limits, asked) or asked

    def hit(self, asked: Asked) -> tuple[Opened, Sequence[Slot]]:
        """Count a request that all limits have let pass. Returns its row, and the slots that are held for it."""
        row, opening = self.row, asked.opening
        slots = [slot for limit in self.others if (slot := limit.hit(asked)) is not None]
        is_awaited = bool(slots) and any(limit.is_scarce for limit in self._parallel)
        if self.headroom is not None and asked.is_in_headroom:
            is_awaited |= self.headroom.take(asked.reserved)
        elif self.headroom is not None:
            is_awaited = True
            for limit in self.reserving:
                limit.hit(asked)
        return Opened(
            opening.request_id,
            asked.at,
            row.project_id,
            row.token_id,
            opening.endpoint,
            has_slots=bool(slots),
            is_awaited=is_awaited,
            is_counted=self.headroom is not None,  # one that reserves nothing may still cost something
            reserved=asked.reserved,
        ), slots

    @property
    def windows(self) -> Sequence[Standing]:
        """The standings of the windows of requests, and of tokens, with the least left; nothing without windows."""
        of_tokens = None if self.headroom is None else self.headroom.standing
        of_requests = (tightest(self._request_windows),) if self._request_windows else ()
        return (*of_requests, of_tokens) if of_tokens is not None else of_requests

    def hold(self) -> None:
        """Hold in the balances what requests have reserved."""
        if self.headroom is not None:
            self.headroom.hold()

    def _moment(self, now: int) -> int:
        """Return the time of an admission, to which all limits come: after the clock stepped back it may be ahead."""
        at = max(now, self.begins_at)
        if at > now:
            for limit in self.reserving:
                limit.advance(at)
        return at


type BoundsOf = Callable[[TokenRow, Opening, bool], Bounds | TokenRefused]
"""Returns the most that a request may use, or the refusal of one that a budget cannot bound; True: there is one."""


class Batch:
    """Decides the claims of a batch at a time (microseconds).

    `open_api_key` decrypts the key of a project, by its id. Raises DecryptionError. `usual_output` are the tokens that
    are reserved for a request without a bound of its own.
    """

    def __init__(
        self,
        tokens: Mapping[TokenName, TokenState],
        now: int,
        open_api_key: Callable[[str, bytes], str],
        bounds_of: BoundsOf,
        usual_output: int,
    ) -> None:
        self.admitted: list[tuple[Opening, Opened]] = []
        self.slots: list[Slot] = []
        self.growths: list[tuple[str, Amounts]] = []
        """The further amounts that requests reserve which were admitted before."""
        self._tokens = tokens
        self._now = now
        self._open_api_key = open_api_key
        self._bounds_of = bounds_of
        self._usual_output = usual_output
        self.open_ids: AbstractSet[str] = frozenset()
        """The rows that may reserve more, as they are not settled."""
        self._api_keys: dict[str, str] = {}

    def close(self) -> None:
        """Hold in the balances what requests have reserved; at the end, before these are written."""
        for token in self._tokens.values():
            token.hold()

    def decide(self, claim: Claim) -> Admitted | Extended | Unread | GatewayError | None:
        """Admit a claim and count it, or return the error that refuses it; None for a paid one that may go on.

        Unread: what it asks for has to be read first.
        """
        token = self._tokens.get(claim.name)
        if token is None:
            return InvalidToken()
        outcome = (
            refusal_of(token.row, self._now)
            or policies.refusal(token.policies, claim.opening)
            or self._within_limits(token, claim)
        )
        if isinstance(outcome, Unread):
            return Unread(token.headroom is not None)
        if isinstance(outcome, TokenRefused):
            outcome.refused = Refused(claim.opening, token.holder, self._now)
        return outcome

    def grow(self, growth: Growth) -> Extended:
        """Reserve more for a request under way: all that there is, where that is not enough."""
        opened = growth.opened
        token = self._tokens.get(TokenName("id", opened.token_id))
        if token is None or opened.request_id not in self.open_ids:  # it was deleted, or the request has ended
            return Extended(opened)
        token.hold()
        limits = [limit for limit in token.reserving if limit.is_for(opened.started_at)]
        if not limits:
            return Extended(opened)
        asked = Asked(_of_row(opened), opened.started_at, growth.more)
        is_full = any(limit.test(asked) is not None for limit in limits)
        if is_full:
            left = left_of(limits)
            most = Amounts(min(growth.more.tokens, left.tokens), min(growth.more.usd, left.usd))
            asked = asked._replace(reserved=most)
        return Extended(self._reserve_more(opened, limits, asked), is_full=is_full)

    def _within_limits(self, token: TokenState, claim: Claim) -> Admitted | Extended | Unread | GatewayError | None:
        if claim.is_paid and (claim.extends is None or token.headroom is None):
            return None
        if token.headroom is None:
            return self._admit(token, claim, None)
        reading = claim.opening.reading
        if reading is None or (reading.demand is None and reading.generates and not reading.doubt):
            return Unread()
        bounds = self._bounds_of(token.row, claim.opening, token.has_budget)
        if isinstance(bounds, TokenRefused):
            return bounds
        extends = claim.extends
        return self._admit(token, claim, bounds) if extends is None else self._extend(token, claim, extends, bounds)

    def _extend(self, token: TokenState, claim: Claim, opened: Opened, bounds: Bounds) -> Extended | TokenRefused:
        """Reserve for one more use of a row. One that is older than a limit, or its period, cannot be used any more."""
        token.hold()
        limits = token.reserving
        if token.begins_at > opened.started_at:
            return Extended(opened, is_past=True)
        if opened.request_id not in self.open_ids:
            return Extended(opened)
        more = reserved(bounds, self._usual_output, left_of(limits))
        asked = Asked(claim.opening._replace(request_id=opened.request_id), opened.started_at, more)
        refusal = first_refusal(limits, asked)
        if refusal is not None:
            return refusal
        return Extended(self._reserve_more(opened, limits, asked), bounds)

    def _reserve_more(self, opened: Opened, limits: Sequence[Reserving], asked: Asked) -> Opened:
        for limit in limits:
            limit.hit(asked)
        self.growths.append((opened.request_id, asked.reserved))
        return opened._replace(reserved=opened.reserved.plus(asked.reserved))

    def _admit(self, token: TokenState, claim: Claim, bounds: Bounds | None) -> Admitted | GatewayError:
        row, opening = token.row, claim.opening
        asked = token.ask(opening, self._now, bounds, self._usual_output)
        if isinstance(asked, TokenRefused):
            return asked
        try:
            api_key = self._api_key(row)
        except DecryptionError:
            fault = f"The key of project {row.project_id} cannot be decrypted."
            _log.error("%s Replace it: PATCH the project's api_key.", fault)
            return GatewayError(fault)
        opened, slots = token.hit(asked)
        self.admitted.append((opening, opened))
        self.slots += slots
        shown = policies.shown_models(token.policies)
        lookup = claim.name.value if claim.name.column == "lookup" else ""
        return Admitted(opened, token.holder, api_key, token.windows, shown, bounds, lookup)

    def _api_key(self, row: TokenRow) -> str:
        if row.project_id not in self._api_keys:
            self._api_keys[row.project_id] = self._open_api_key(row.project_id, bytes(row.project_sealed_api_key))
        return self._api_keys[row.project_id]


class Validity(Protocol):
    """A token as far as it may make requests at all."""

    @property
    def token_is_active(self) -> bool:
        """False once it is revoked."""

    @property
    def token_expires_at(self) -> int:
        """The time at which it expires."""

    @property
    def project_is_active(self) -> bool:
        """False while its project is switched off."""


def refusal_of(row: Validity, now: int) -> TokenRefused | None:
    """Return why a token may make no request at all, or None."""
    if not row.token_is_active:
        return TokenInactive()
    if row.token_expires_at <= now:
        return TokenExpired()
    if not row.project_is_active:
        return ProjectInactive()
    return None


def _of_row(opened: Opened) -> Opening:
    """Return the opening of a row, as far as limits look at it."""
    return Opening(opened.request_id, "", "", opened.endpoint, None)
