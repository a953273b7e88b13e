"""Policies at an admission: from where, on which endpoints and with which models a token may be used.

The order of the checks: the client's address, the endpoint, the models; in each the token's before the project's.
"""

import re
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from store.errors import EndpointNotAllowed, IpNotAllowed, ModelNotAllowed, ModelNotFound, TokenRefused
from store.policies import endpoints
from store.policies.endpoints import Call
from store.policies.policy import Policy
from store.request import Opening
from store.runtime.redaction import mask_secrets

_MODELS = "/v1/models"
_MODELS_ODDLY = re.compile(r"/v1/models(?![\w-])", re.ASCII | re.IGNORECASE)
"""The same as servers may read it that ignore the case of a path, or what follows `;`, `.` or `?` in it."""
_LOOKS_UP = frozenset({"GET", "HEAD", "DELETE"})

_LONGEST = 200
"""Characters of a request's own text in a message."""


class Unread(NamedTuple):
    """The outcome of a request whose models have not been read, and have to be: nothing is counted.

    `needs_demand`: the most that it may use, too.
    """

    needs_demand: bool = False


class OwnedPolicy(NamedTuple):
    """The policy of a token, or of its project."""

    owner: Literal["token", "project"]
    policy: Policy

    def refuses(self, field: str, what: str) -> str:
        """Return the sentence that says which policy refuses what."""
        return f"The {self.owner}'s '{field}' do not include {_quoted(what)}."


def refusal(policies: Sequence[OwnedPolicy], opening: Opening) -> TokenRefused | Unread | None:
    """Return why policies refuse a request, or None; Unread where its models have to be read first."""
    if not policies and opening.reserved is None:
        return None
    asked = endpoints.call(opening.method, opening.path)
    return (
        _refusal_of_client(policies, opening)
        or _refusal_of_endpoint(policies, opening, asked)
        or _refusal_of_models(policies, opening, asked)
    )


def shown_models(policies: Iterable[OwnedPolicy]) -> Container[str] | None:
    """Return the models that all policies allow; None for any."""
    lists = [owned.policy.models for owned in policies if owned.policy.models is not None]
    return _InAll(lists) if lists else None


@dataclass(frozen=True, slots=True)
class _InAll:
    """The models that are in each of several lists."""

    lists: Sequence[Container[str]]

    def __contains__(self, model: object) -> bool:
        return all(model in each for each in self.lists)


def _refusal_of_client(policies: Sequence[OwnedPolicy], opening: Opening) -> TokenRefused | None:
    client = opening.client
    if client is None:
        return None
    refusing = _first(policies, lambda policy: not policy.allows_client(client))
    return refusing and IpNotAllowed(refusing.refuses("allowed_ips", client))


def _refusal_of_endpoint(policies: Sequence[OwnedPolicy], opening: Opening, asked: Call | None) -> TokenRefused | None:
    if asked is None:
        limited = _first(policies, lambda policy: policy.endpoints is not None)
        if limited is None:
            return EndpointNotAllowed() if opening.reserved is not None else None
        return EndpointNotAllowed(
            f"The {limited.owner} limits its endpoints, and upstreams may read the path of this request variously. "
            "Send it without escapes ('%') that encode more than visible ASCII."
        )
    refusing = _first(policies, lambda policy: not _allows(policy.endpoints, asked))
    if refusing is not None:
        return EndpointNotAllowed(refusing.refuses("allowed_endpoints", f"{asked.method} {asked.path}"))
    if opening.reserved is None or any(_opens(owned.policy.endpoints, asked, opening.reserved) for owned in policies):
        return None
    return EndpointNotAllowed()


def _allows(entries: Sequence[str] | None, asked: Call) -> bool:
    return entries is None or any(endpoints.allows(entry, asked) for entry in entries)


def _opens(entries: Sequence[str] | None, asked: Call, reserved: str) -> bool:
    return reserved != "" and any(endpoints.opens(entry, asked, reserved) for entry in entries or ())


def _refusal_of_models(
    policies: Sequence[OwnedPolicy], opening: Opening, asked: Call | None
) -> TokenRefused | Unread | None:
    limited = [owned for owned in policies if owned.policy.models is not None]
    if not limited:
        return None
    reading = opening.reading
    if reading is None:
        return Unread()
    doubt = reading.doubt or ("It names no model." if reading.generates and not reading.models else "")
    if asked is None or doubt:
        return ModelNotAllowed(
            f"The {limited[0].owner} limits its models, and the model of this request cannot be told. "
            f"{doubt or "Its path has escapes ('%') that upstreams may read variously."}"
        )
    for owned in limited:
        others = [model for model in reading.models if model not in (owned.policy.models or ())]
        if others:
            return ModelNotAllowed(owned.refuses("allowed_models", others[0]))
    return _refusal_of_look_up(limited, asked)


def _refusal_of_look_up(limited: Sequence[OwnedPolicy], asked: Call) -> TokenRefused | None:
    if asked.method not in _LOOKS_UP or asked.path == _MODELS or not _MODELS_ODDLY.match(asked.path):
        return None
    model = asked.path.removeprefix(f"{_MODELS}/")
    is_name = model != asked.path  # the path is not spelled oddly
    return None if is_name and model in (shown_models(limited) or ()) else ModelNotFound()


def _first(policies: Sequence[OwnedPolicy], refuses: Callable[[Policy], bool]) -> OwnedPolicy | None:
    return next((owned for owned in policies if refuses(owned.policy)), None)


def _quoted(text: str) -> str:
    masked = mask_secrets(text)
    return f"'{masked}'" if len(masked) <= _LONGEST else f"'{masked[:_LONGEST]}…'"
