"""A request as the store knows it: when it is opened, admitted or refused."""

from types import MappingProxyType
from typing import NamedTuple, Self

from store.database.sql import storable
from store.ledger.usage import Conditions, Units
from store.runtime.redaction import mask_secrets

MAX_PATH = 2048
"""Characters of a path that the ledger keeps."""


class Holder(NamedTuple):
    """A token and its project, as operators know them: public ids and names. `token_name` is None for one without."""

    token_id: str
    token_name: str | None
    project_id: str
    project_name: str


class Reading(NamedTuple):
    """The models that a request asks for, as its upstream will read them.

    `doubt` is a sentence that says why they cannot be told with certainty, and what to do; empty where they can be. A
    request that does not generate anything asks for none.
    """

    models: tuple[str, ...] = ()
    doubt: str = ""
    generates: bool = True
    demand: "Demand | None" = None
    """The most that it may use; None where that cannot be told."""


NOTHING = Reading(generates=False)
"""The reading of a request that generates nothing."""


NO_UNITS: Units = MappingProxyType({})


class Demand(NamedTuple):
    """The most that a request may use, as far as it can be told before the request is sent."""

    input_tokens: int = 0
    """An upper estimate of all input, audio and images among it."""
    output_tokens: int | None = 0
    """All output that the request allows; None where it sets no bound itself."""
    choices: int = 1
    """The answers that it asks for at once: a default for the output counts that often."""
    units: Units = NO_UNITS
    """Further units at most, under the names of a usage. Those of tokens are parts of the totals."""
    conditions: Conditions = ()
    """Those that make it dearer. A cheaper tier that it asks for is none: the answer may come at the full price."""
    speaks: bool = False
    """True if the output may be audio."""
    refers: bool = False
    """True if it reads input that is not in the body, so that only the model's context window bounds its input."""
    unbounded: str = ""
    """A sentence that says why its cost cannot be bounded; empty where it can."""


class Opening(NamedTuple):
    """A request as it is known when it is admitted. The endpoint is its path without ids.

    `reserved` is the part of the path for which tokens must not reach the endpoint, unless a policy writes it out; None
    for an endpoint that is open, empty for one that nothing opens. `session_id` is the request id of the WebSocket's
    opening, for a further response over it. `client` is the address that the request came from; None for a replay,
    which is the operator's. `reading` is None while the models that it asks for have not been read.
    """

    request_id: str
    method: str
    path: str
    endpoint: str
    reserved: str | None
    session_id: str | None = None
    client: str | None = None
    upstream: str = ""
    """The origin that it goes to, which determines whose prices hold."""
    reading: Reading | None = None

    def read_as(self, reading: Reading) -> "Opening":
        """Return it with a reading: `_replace` takes three times as long."""
        return tuple.__new__(Opening, (*self[:-1], reading))

    @property
    def kept_path(self) -> str:
        """The path as the ledger keeps it: without secrets, cut where it is very long."""
        return storable(mask_secrets(self.path)[:MAX_PATH])


class Amounts(NamedTuple):
    """Tokens and money (COST_UNITs), as limits count them."""

    tokens: int = 0
    usd: int = 0

    def plus(self, other: Self) -> Self:
        """Return the sum."""
        return type(self)(self.tokens + other.tokens, self.usd + other.usd)

    def minus(self, other: Self) -> Self:
        """Return the difference."""
        return type(self)(self.tokens - other.tokens, self.usd - other.usd)


class Opened(NamedTuple):
    """An opened row, as far as settling it needs it. `started_at` is in microseconds.

    `has_slots` tells whether limits of requests at once may hold slots for it, `is_counted` whether limits of tokens or
    money hold what it has `reserved`, and count what it uses. `is_awaited` tells whether slots, or what is left of the
    other limits, get scarce: further requests may wait for its end.
    """

    request_id: str
    started_at: int
    project_id: str
    token_id: str
    endpoint: str
    has_slots: bool = False
    is_awaited: bool = False
    is_counted: bool = False
    reserved: Amounts = Amounts()


class Refused(NamedTuple):
    """A refused request: what was known of it, its token, and the time of the refusal (microseconds)."""

    opening: Opening
    holder: Holder
    at: int
