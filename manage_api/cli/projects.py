"""`llm-proxy project`: what `/manage/projects` does, on the store directly."""

from typing import Any

import click

from manage_api import bodies, schemas
from manage_api.cli import asking, fields, ids, options, reading, showing, table
from store.management import bulk
from store.management.projects import ProjectChanges, ProjectRecord, Projects
from store.reports.usage_query import UsageFilter
from store.reports.usage_report import UsageReports
from store.reports.usage_totals import UsageSums
from store.store import Store

_COLUMNS = {"name": "name", "status": "status", "created": "created (UTC)", "limits": "limits", "id": "id"}


@click.group(name="project")
def project_command() -> None:
    """List, show, create, change and delete projects; each owns an upstream key."""


@project_command.command(name="list")
@options.as_json
def list_command(*, as_json: bool) -> None:
    """List the projects, ordered by name."""

    def act(store: Store) -> str:
        records = Projects(store).list()
        if as_json:
            return table.as_json([schemas.project(record) for record in records])
        return table.write(_COLUMNS, map(_row, records), width=table.terminal_width(), dispensable=("id", "created"))

    reading.on_store(act)


@project_command.command(name="show")
@options.project
@options.as_json
def show_command(project: str, *, as_json: bool) -> None:
    """Show a project, by its name or id: its limits, what is used of them, and its usage."""

    def act(store: Store) -> str:
        record = Projects(store).get(ids.project(store, project))
        return _shown(record, UsageReports(store).totals(UsageFilter(project_id=record.id)), as_json=as_json)

    reading.on_store(act)


@project_command.command(name="create")
@click.argument("name")
@fields.with_fields(fields.RULES)
@options.as_json
def create_command(name: str, *, body: dict[str, Any], as_json: bool) -> None:
    """Create a project with a NAME. Its upstream key is asked for, or read from standard input (the first line)."""

    def act(store: Store) -> str:
        request = {"name": name, "api_key": asking.key(), **body}
        bodies.check("ProjectRequest", request)
        return _shown(bodies.create_project(Projects(store), request), as_json=as_json)

    reading.on_store(act)


@project_command.command(name="update")
@options.project
@fields.with_fields([fields.PROJECT_NAME, *fields.RULES], removable=True)
@click.option("--key", "sets_key", is_flag=True, help="Ask for a new upstream key, or read it from standard input.")
@click.option("--enable/--disable", "is_active", default=None, help="Admit the requests of its tokens, or refuse them.")
@options.as_json
def update_command(
    project: str, *, body: dict[str, Any], sets_key: bool, is_active: bool | None, as_json: bool
) -> None:
    """Change what the options name; the rest stays. A list of limits or models replaces the one that is set."""
    if is_active is not None:
        body["is_active"] = is_active
    if not body and not sets_key:
        raise click.UsageError("Nothing is to be changed: name an option.")

    def act(store: Store) -> str:
        project_id = ids.project(store, project)
        request = {**body, "api_key": asking.key()} if sets_key else body
        bodies.check("ProjectUpdateRequest", request)
        return _shown(Projects(store).update(project_id, bodies.named(ProjectChanges, request)), as_json=as_json)

    reading.on_store(act)


@project_command.command(name="delete")
@options.project
@options.yes
@options.as_json
def delete_command(project: str, *, yes: bool, as_json: bool) -> None:
    """Delete a project, its tokens and its prices. The ledger keeps its requests."""

    def act(store: Store) -> str:
        projects = Projects(store)
        record = projects.get(ids.project(store, project))
        asking.confirm(_lost(store, record), yes=yes)
        projects.delete(record.id)
        return table.as_json(schemas.project(record)) if as_json else f"Deleted: project {_called(record)}.\n"

    reading.on_store(act)


def _row(record: ProjectRecord) -> dict[str, object]:
    return {
        "name": record.name,
        "status": ids.status_of(record),
        "created": table.moment(record.created_at),
        "limits": showing.limits_in_words(record.limits),
        "id": record.id,
    }


def _shown(record: ProjectRecord, sums: UsageSums | None = None, *, as_json: bool) -> str:
    if as_json:
        return table.as_json(showing.with_usage(schemas.project(record), sums))
    return showing.project(record, sums)


def _lost(store: Store, record: ProjectRecord) -> str:
    number = len(bulk.token_ids(store.database, record.id))
    return (
        f"The project {_called(record)} is deleted for good, with its key, its prices and its tokens ({number:,}): "
        "their requests are refused at once."
    )


def _called(record: ProjectRecord) -> str:
    return f"{table.printable(record.name)} ({record.id})"
