"""The holder of a token, as operators know it: what a refusal, a log line and a comment name."""

from typing import NamedTuple


class Holder(NamedTuple):
    """A token and its project: public ids and names. `token_name` is None for a token without one."""

    token_id: str
    token_name: str | None
    project_id: str
    project_name: str
