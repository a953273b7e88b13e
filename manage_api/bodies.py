"""Bodies of requests that create or change something, without HTTP: the command line makes them too.

`check` holds a body to openapi.yaml, as `contract` does with a request. The other functions read a body that has passed
into the store's types; the resources and the command line call them alike, so that no rule is written twice.
"""

import copy
import functools
import uuid
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from manage_api import faults, formats
from store import clock
from store.errors import InvalidRequest
from store.management.prices import OwnPrices, PriceRecord
from store.management.projects import ProjectRecord, Projects
from store.management.tokens import DEFAULT_EXPIRES_IN_DAYS, TokenChanges, TokenRecord, Tokens
from store.policies.lists import Rules

OPENAPI = Path(__file__).with_name("openapi.yaml")

type Body = Mapping[str, Any]


def check(schema: str, body: Body) -> None:
    """Check a body against a schema of openapi.yaml, such as `TokenRequest`. Raises InvalidRequest.

    It takes some 0.2 s the first time, for the libraries and the file.
    """
    from openapi_schema_validator import (  # noqa: PLC0415 - commands that only read do without
        OAS30WriteValidator,
        oas30_format_checker,
    )

    checker = copy.copy(oas30_format_checker)
    checker.checkers = {**checker.checkers, **{name: (accepts, ()) for name, accepts in formats.CHECKS.items()}}
    root = {"$ref": f"#/components/schemas/{schema}", "components": _document()["components"]}
    found = OAS30WriteValidator(root, format_checker=checker).iter_errors(body)
    wrong = [*dict.fromkeys(faults.sentences(found, faults.field))]
    if wrong:
        raise InvalidRequest(" ".join(wrong))


def named[Changes: Mapping[str, object]](fields: type[Changes], body: Body) -> Changes:
    """Return the fields of a TypedDict that a body names."""
    return cast("Changes", {name: body[name] for name in fields.__annotations__ if name in body})


def create_project(projects: Projects, body: Body) -> ProjectRecord:
    """Add the project of a `ProjectRequest`. Raises as `Projects.create` does."""
    return projects.create(body["name"], body["api_key"], **named(Rules, body))


def create_token(tokens: Tokens, body: Body) -> TokenRecord:
    """Add the token of a `TokenRequest`. Raises as `Tokens.create` does."""
    return tokens.create(
        canonical(body["project_id"]),
        body.get("expires_in_days", DEFAULT_EXPIRES_IN_DAYS),
        body.get("max_requests", 0),
        expires_at=_moment(body["expires_at"]) if "expires_at" in body else None,
        name=body.get("name"),
        **named(Rules, body),
    )


def token_changes(body: Body) -> TokenChanges:
    """Return the changes of a `TokenUpdateRequest`."""
    changes = named(TokenChanges, body)
    if "expires_at" in changes:
        changes["expires_at"] = _moment(body["expires_at"])
    return changes


def set_price(prices: OwnPrices, body: Body) -> PriceRecord:
    """Set the price of a `PriceRequest`. Raises as `OwnPrices.set` does."""
    project_id = body.get("project_id")
    return prices.set(
        # `str` gives the shortest decimal that reads as this float, which is the number that was sent.
        {name: Decimal(str(rate)) for name, rate in body["rates"].items()},
        project_id=None if project_id is None else canonical(project_id),
        model=body.get("model"),
    )


def canonical(text: str) -> str:
    """Return a UUID in the store's form: lower case, with hyphens."""
    return str(uuid.UUID(text))


@functools.cache
def _document() -> Mapping[str, Any]:
    import yaml  # noqa: PLC0415 - as above

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document: Mapping[str, Any] = yaml.load(OPENAPI.read_text(encoding="utf-8"), loader)  # noqa: S506 - either is safe
    return document


def _moment(text: str | None) -> int:
    """Return the expiry of a token in microseconds; null never expires."""
    return clock.NEVER if text is None else clock.from_rfc3339(text)
