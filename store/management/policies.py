"""Policies of tokens and projects: the columns that keep them, as they were written."""

from collections.abc import Mapping

from store.database.models import Project, Token
from store.policies import lists
from store.policies.lists import Policies


def columns(changes: Mapping[str, object]) -> dict[str, object]:
    """Return the columns of the policies that changes name. Raises InvalidRequest."""
    named: Policies = {name: changes[name] for name in Policies.__annotations__ if name in changes}  # type: ignore[assignment]
    lists.check(named)
    return {name: lists.written(entries) for name, entries in named.items()}  # type: ignore[arg-type]


def of_row(row: Token | Project) -> Policies:
    """Return the policies of an owner."""
    return {
        "allowed_models": lists.read(row.allowed_models),
        "allowed_endpoints": lists.read(row.allowed_endpoints),
        "allowed_ips": lists.read(row.allowed_ips),
    }
