"""`/manage/projects`: projects."""

import uuid

import flask

from manage_api import access_log, bodies, patch, responses, schemas
from manage_api.schemas import JSONObject
from store.management.projects import ProjectChanges, ProjectRecord, Projects
from store.management.tokens import Tokens
from store.reports.usage_query import UsageFilter
from store.reports.usage_report import UsageReports
from store.store import Store


def blueprint(store: Store) -> flask.Blueprint:
    """Make the resource of a store."""
    routes = flask.Blueprint("projects", __name__, url_prefix="/manage/projects")
    projects = Projects(store)
    tokens = Tokens(store)
    reports = UsageReports(store)

    @routes.get("")
    def list_projects() -> list[JSONObject]:
        return [schemas.project(record) for record in projects.list()]

    @routes.post("")
    def create_project() -> tuple[JSONObject, int]:
        record = bodies.create_project(projects, flask.request.get_json())
        access_log.changed(project_id=record.id)
        return schemas.project(record), 201

    @routes.get("/<uuid:project_id>")
    def get_project(project_id: uuid.UUID) -> JSONObject:
        record = projects.get(str(project_id))
        return {**schemas.project(record), **usage(record)}

    @routes.patch("/<uuid:project_id>")
    def update_project(project_id: uuid.UUID) -> JSONObject:
        # Sums of the ledger are read before the change: a report is a transaction of its own.
        sums = usage(projects.get(str(project_id))) if "usage" in flask.request.get_json() else {}

        def shown(record: ProjectRecord) -> JSONObject:
            return {**schemas.project(record), **sums}

        with access_log.changing(project_id=str(project_id)):
            return schemas.project(projects.update(str(project_id), patch.changes(ProjectChanges), patch.check(shown)))

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
