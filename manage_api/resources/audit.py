"""`/manage/audit`: the changes that were made through the API and the command line, as JSON or JSON lines."""

import flask

from manage_api import responses, schemas
from manage_api.query import cursor, identifier, limit, moment, parameter
from manage_api.schemas import JSONObject
from store.reports.audit_log import AuditFilter, AuditLog
from store.store import Store


def blueprint(store: Store) -> flask.Blueprint:
    """Make the resource of a store."""
    routes = flask.Blueprint("audit", __name__, url_prefix="/manage/audit")
    changes = AuditLog(store)

    @routes.get("")
    def list_changes() -> JSONObject | flask.Response:
        about = AuditFilter(
            start=moment("from"),
            end=moment("to"),
            actor=parameter("actor"),
            action=parameter("action"),
            object_id=identifier("objectId"),
            project_id=identifier("projectId"),
        )
        return responses.page(changes.page(about, limit=limit(), after=cursor()), schemas.audit_row)

    return routes
