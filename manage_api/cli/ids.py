"""Looks up the ids of a command line in the store: an unknown id is a mistake, not an empty report."""

import uuid
from dataclasses import replace

import click

from manage_api.cli import table
from store.errors import NotFound
from store.management import names
from store.management.tokens import Tokens
from store.reports.request_list import RequestFilter
from store.reports.usage_query import UsageFilter
from store.reports.usage_report import UsageReports
from store.store import Store

_SHOWN = 20
"""Projects listed in a message at most."""


def known[Filter: (UsageFilter, RequestFilter)](store: Store, about: Filter) -> Filter:
    """Return a filter with public ids. The command line may name a token by its value, in any case.

    Deleted projects and tokens are found while the ledger has requests of them. Raises click.BadParameter,
    StoreUnavailable.
    """
    if about.project_id is not None:
        about = replace(about, project_id=_project(store, about.project_id))
    if about.token_id is not None:
        about = replace(about, token_id=_token(store, about.token_id))
    return about


def _project(store: Store, text: str) -> str:
    with store.database.read():
        projects = names.of_projects(store.database)
    try:
        project_id = str(uuid.UUID(text))
    except ValueError:
        project_id = None
    if project_id in projects or (project_id and _has_requests(store, UsageFilter(project_id=project_id))):
        return project_id
    raise click.BadParameter(f"no project has this id. {_listed(projects)}", param_hint="'--project'")


def _listed(projects: dict[str, str]) -> str:
    """List projects by name."""
    rows = [{"id": each, "name": name} for each, name in sorted(projects.items(), key=lambda item: item[::-1])]
    if not rows:
        return "There is none yet."
    more = f"and {len(rows) - _SHOWN:,} more\n" if len(rows) > _SHOWN else ""
    return f"The projects:\n\n{table.write({'id': 'id', 'name': 'name'}, rows[:_SHOWN])}{more}".rstrip()


def _token(store: Store, token_id: str) -> str:
    try:
        return Tokens(store).get(token_id).id
    except NotFound:
        if _has_requests(store, UsageFilter(token_id=token_id)):
            return token_id
    raise click.BadParameter("no token has this id, or this value.", param_hint="'--token'")


def _has_requests(store: Store, about: UsageFilter) -> bool:
    totals = UsageReports(store).totals(about)
    return totals.requests > 0 or totals.refused > 0
