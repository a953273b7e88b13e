"""A request as the store knows it: when it is opened, admitted or refused."""

from typing import NamedTuple

from store.database.sql import storable
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


NOTHING = Reading(generates=False)
"""The reading of a request that generates nothing."""


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
    reading: Reading | None = None

    @property
    def kept_path(self) -> str:
        """The path as the ledger keeps it: without secrets, cut where it is very long."""
        return storable(mask_secrets(self.path)[:MAX_PATH])


class Opened(NamedTuple):
    """An opened row, as far as settling it needs it. `started_at` is in microseconds.

    `slots` are the balances of which the request holds a slot, `is_awaited` tells whether these are getting scarce.
    """

    request_id: str
    started_at: int
    project_id: str
    token_id: str
    endpoint: str
    slots: tuple[str, ...] = ()
    is_awaited: bool = False


class Refused(NamedTuple):
    """A refused request: what was known of it, its token, and the time of the refusal (microseconds)."""

    opening: Opening
    holder: Holder
    at: int
