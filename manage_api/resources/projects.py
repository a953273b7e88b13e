"""`/manage/projects`: projects, over HTTP."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import flask

from manage_api import access_log, read_only, responses, schemas
from manage_api.schemas import JSONObject
from store.management.projects import ProjectChanges, ProjectRecord, Projects
from store.management.tokens import Tokens
from store.reports.usage_query import UsageFilter
from store.reports.usage_report import UsageReports
from store.store import Store


def blueprint(store: Store) -> flask.Blueprint:
    """Make the resource; requests have been checked against openapi.yaml when they get here."""
    routes = flask.Blueprint("projects", __name__, url_prefix="/manage/projects")
    projects = Projects(store)
    tokens = Tokens(store)
    reports = UsageReports(store)

    @routes.get("")
    def list_projects() -> list[JSONObject]:
        return [schemas.project(record) for record in projects.list()]

    @routes.post("")
    def create_project() -> tuple[JSONObject, int]:
        body = flask.request.get_json()
        record = projects.create(body["name"], body["api_key"])
        access_log.changed(project_id=record.id)
        return schemas.project(record), 201

    @routes.get("/<uuid:project_id>")
    def get_project(project_id: uuid.UUID) -> JSONObject:
        record = projects.get(str(project_id))
        return {**schemas.project(record), **usage(record)}

    @routes.patch("/<uuid:project_id>")
    def update_project(project_id: uuid.UUID) -> JSONObject:
        body = flask.request.get_json()
        # Sums of the ledger are read before the change: a report is a transaction of its own.
        sums = usage(projects.get(str(project_id))) if "usage" in body else {}
        check: Callable[[ProjectRecord], None] | None = read_only.check(
            lambda record: {**schemas.project(record), **sums}
        )
        with access_log.changing(project_id=str(project_id)):
            return schemas.project(projects.update(str(project_id), _changes(body), check))

    @routes.delete("/<uuid:project_id>")
    def delete_project(project_id: uuid.UUID) -> flask.Response:
        with access_log.changing(project_id=str(project_id)):
            projects.delete(str(project_id))
        return responses.no_content()

    @routes.post("/<uuid:project_id>/tokens/revoke")
    def revoke_tokens(project_id: uuid.UUID) -> JSONObject:
        with access_log.changing(project_id=str(project_id)):
            return schemas.revoked(tokens.revoke_all(str(project_id)))

    def usage(record: ProjectRecord) -> JSONObject:
        return {"usage": schemas.usage_sums(reports.totals(UsageFilter(project_id=record.id)))}

    return routes


def _changes(body: Mapping[str, Any]) -> ProjectChanges:
    changes: ProjectChanges = {}
    if "name" in body:
        changes["name"] = body["name"]
    if "api_key" in body:
        changes["api_key"] = body["api_key"]
    if "is_active" in body:
        changes["is_active"] = body["is_active"]
    return changes
