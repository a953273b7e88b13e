"""`/manage/admins`: administrators. A token is in the response to its creation alone."""

import uuid

import flask

from manage_api import access_log, responses, schemas
from manage_api.schemas import JSONObject
from store.management.admins import Admins, Role
from store.store import Store


def blueprint(store: Store) -> flask.Blueprint:
    """Make the resource of a store."""
    routes = flask.Blueprint("admins", __name__, url_prefix="/manage/admins")
    admins = Admins(store)

    @routes.get("")
    def list_admins() -> list[JSONObject]:
        return [schemas.admin(record) for record in admins.list()]

    @routes.post("")
    def create_admin() -> tuple[JSONObject, int]:
        body = flask.request.get_json()
        record, token = admins.create(body["name"], Role(body["role"]))
        access_log.changed(admin_id=record.id)
        return {**schemas.admin(record), "token": token}, 201

    @routes.delete("/<uuid:admin_id>")
    def delete_admin(admin_id: uuid.UUID) -> flask.Response:
        with access_log.changing(admin_id=str(admin_id)):
            admins.delete(str(admin_id))
        return responses.no_content()

    return routes
