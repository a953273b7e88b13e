"""Looks up the names and ids of a command line in the store.

A name or id that nothing has is a mistake, not an empty report. A name that several have is refused with their ids.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import click

from manage_api.cli import table
from store import clock
from store.errors import NotFound
from store.management import names
from store.management.admins import AdminRecord, Admins
from store.management.projects import ProjectRecord, Projects
from store.management.tokens import TokenRecord, Tokens
from store.reports.audit_log import AuditLog
from store.reports.request_list import RequestFilter
from store.reports.usage_query import UsageFilter
from store.reports.usage_report import UsageReports
from store.store import Store

_SHOWN = 20
"""Projects or tokens listed in a message at most."""


class Ambiguous(click.ClickException):
    """Several projects, or tokens, have the name that was given; the message lists them."""

    exit_code = 4


def known[Filter: (UsageFilter, RequestFilter)](store: Store, about: Filter) -> Filter:
    """Return a filter with public ids in place of names, and of values of tokens in any case.

    Deleted projects and tokens are found too: by their names, and by their ids while the ledger has requests of them.
    Raises click.BadParameter, Ambiguous, StoreUnavailable.
    """
    if about.project_id is not None:
        about = replace(about, project_id=_project(store, about.project_id))
    if about.token_id is not None:
        about = replace(about, token_id=_token(store, about.token_id))
    return about


def project(store: Store, text: str, hint: str = "'PROJECT'") -> str:
    """Return the id of a project by its name or id. Raises click.BadParameter, Ambiguous, StoreUnavailable."""
    found = _present_project(store, text)
    if found is None:
        raise _no_project({record.id: record.name for record in Projects(store).list()}, hint)
    return found


def token(store: Store, text: str, hint: str = "'TOKEN'") -> str:
    """Return the public id of a token by its name, id or value. Raises as `project` does."""
    found = _present_token(store, text)
    if found is None:
        raise _no_token(hint)
    return found


def admin(store: Store, text: str) -> AdminRecord:
    """Return an administrator by the name or id. Raises click.BadParameter, StoreUnavailable."""
    found = Admins(store).list()
    for record in found:
        if text in {record.id, record.name}:
            return record
    listed = _listed([{"name": record.name, "id": record.id} for record in found[:_SHOWN]], len(found))
    raise click.BadParameter(
        f"no administrator has this name or id. The administrators:\n\n{listed}", param_hint="'ADMIN'"
    )


def changed(store: Store, text: str) -> str:
    """Return the id of what was changed, by its id or a name that it had, or the value of a token.

    Raises click.BadParameter, Ambiguous, StoreUnavailable.
    """
    given = _uuid(text)
    if given is not None:
        return _by_id(Tokens(store).get, given) or given
    named = AuditLog(store).named(text)
    kinds = {object_id: {"id": object_id, "first change": action} for object_id, action in named}
    found = _single("changed objects", [*kinds], lambda each: kinds[each])
    if found is None:
        raise click.BadParameter("nothing that was changed has this name or id.", param_hint="'--object'")
    return found


def status_of(record: ProjectRecord | TokenRecord) -> str:
    """Return the state of a project or a token in a word."""
    if isinstance(record, ProjectRecord):
        return "active" if record.is_active else "disabled"
    if not record.is_active:
        return "revoked"
    return "active" if record.expires_at > clock.now() else "expired"


def _present_project(store: Store, text: str) -> str | None:
    projects = Projects(store)

    def describe(project_id: str) -> Mapping[str, object]:
        record = projects.get(project_id)
        return {"id": record.id, "created (UTC)": table.moment(record.created_at), "status": status_of(record)}

    return _by_id(projects.get, text) or _single("projects", _projects_named(store, text), describe)


def _present_token(store: Store, text: str) -> str | None:
    tokens = Tokens(store)

    def describe(token_id: str) -> Mapping[str, object]:
        record = tokens.get(token_id)
        return {
            "id": record.id,
            "project": record.project_name,
            "created (UTC)": table.moment(record.created_at),
            "status": status_of(record),
        }

    return _by_id(tokens.get, text) or _single("tokens", _tokens_named(store, text), describe)


def _project(store: Store, text: str) -> str:
    """Return the id of a project, which may be deleted."""
    found = _present_project(store, text) or _single("deleted projects", _projects_named(store, text, deleted=True))
    if found is not None:
        return found
    with store.database.read():
        projects = names.of_projects(store.database)
    project_id = _uuid(text)
    if project_id in projects or (project_id and _has_requests(store, UsageFilter(project_id=project_id))):
        return project_id
    raise _no_project(projects, "'--project'")


def _token(store: Store, text: str) -> str:
    """Return the public id of a token, which may be deleted."""
    found = _present_token(store, text) or _single("deleted tokens", _tokens_named(store, text, deleted=True))
    if found is not None:
        return found
    token_id = _uuid(text)
    if token_id and _has_requests(store, UsageFilter(token_id=token_id)):
        return token_id
    raise _no_token("'--token'")


def _by_id[Record: (ProjectRecord, TokenRecord)](get: Callable[[str], Record], text: str) -> str | None:
    given = _uuid(text)
    try:
        return None if given is None else get(given).id
    except NotFound:
        return None


def _uuid(text: str) -> str | None:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


def _projects_named(store: Store, name: str, *, deleted: bool = False) -> Sequence[str]:
    with store.database.read():
        return names.projects_named(store.database, name, deleted=deleted)


def _tokens_named(store: Store, name: str, *, deleted: bool = False) -> Sequence[str]:
    with store.database.read():
        return names.tokens_named(store.database, name, deleted=deleted)


def _single(
    kind: str, ids: Sequence[str], describe: Callable[[str], Mapping[str, object]] = lambda each: {"id": each}
) -> str | None:
    """Return the only id, or None for none. Raises Ambiguous, with a line for each of several."""
    if len(ids) > 1:
        rows = [describe(each) for each in ids[:_SHOWN]]
        raise Ambiguous(f"{len(ids)} {kind} have this name. Give the id:\n\n{_listed(rows, len(ids))}")
    return ids[0] if ids else None


def _no_project(projects: Mapping[str, str], hint: str) -> click.BadParameter:
    rows = [{"id": each, "name": name} for each, name in sorted(projects.items(), key=lambda item: item[::-1])]
    listed = f"The projects:\n\n{_listed(rows[:_SHOWN], len(rows))}" if rows else "There is none yet."
    return click.BadParameter(f"no project has this name or id. {listed}", param_hint=hint)


def _no_token(hint: str) -> click.BadParameter:
    return click.BadParameter("no token has this name, id or value.", param_hint=hint)


def _listed(rows: Sequence[Mapping[str, object]], number: int) -> str:
    """Write the first rows of a number of them."""
    more = f"and {number - len(rows):,} more\n" if number > len(rows) else ""
    return f"{table.write({name: name for name in rows[0]}, rows)}{more}".rstrip()


def _has_requests(store: Store, about: UsageFilter) -> bool:
    totals = UsageReports(store).totals(about)
    return totals.requests > 0 or totals.refused > 0
