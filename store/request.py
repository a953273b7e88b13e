"""A request as the store knows it: when it is opened, admitted or refused."""

from typing import NamedTuple


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

    `is_reserved`: tokens must not reach the endpoint. `session_id` is the request id of the WebSocket's opening, for a
    further response over it. `client` is the address that the request came from.
    """

    request_id: str
    method: str
    path: str
    endpoint: str
    is_reserved: bool
    session_id: str | None = None
    client: str | None = None


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
