"""`/manage/tokens`: tokens. A `tokenId` is a token's public id, its value, or its previous value while that works."""

import uuid
from dataclasses import replace

import flask

from manage_api import access_log, auth, bodies, patch, responses, schemas
from manage_api.query import identifier, moment, parameter
from manage_api.schemas import JSONObject
from store.errors import InvalidRequest
from store.management.tokens import UNREADABLE, TokenRecord, Tokens
from store.reports.usage_query import UsageFilter
from store.reports.usage_report import UsageReports
from store.store import Store


def blueprint(store: Store) -> flask.Blueprint:
    """Make the resource of a store."""
    routes = flask.Blueprint("tokens", __name__, url_prefix="/manage/tokens")
    tokens = Tokens(store)
    reports = UsageReports(store)

    @routes.get("")
    def list_tokens() -> list[JSONObject]:
        active_only = _flag(parameter("activeOnly") or "false")
        records = tokens.list(identifier("projectId"), active_only=active_only, expires_before=moment("expiresBefore"))
        return [_shown(record) for record in records]

    @routes.post("")
    def create_token() -> tuple[JSONObject, int]:
        record = bodies.create_token(tokens, flask.request.get_json())
        access_log.changed(token_id=record.id)
        return _shown(record), 201

    @routes.get("/<uuid:token_id>")
    def get_token(token_id: uuid.UUID) -> JSONObject:
        record = tokens.get(str(token_id))
        return {**_shown(record), **usage(record)}

    @routes.patch("/<uuid:token_id>")
    def update_token(token_id: uuid.UUID) -> JSONObject:
        token = tokens.get(str(token_id))
        # Sums of the ledger are read before the change: a report is a transaction of its own.
        sums = usage(token) if "usage" in flask.request.get_json() else {}

        def shown(record: TokenRecord) -> JSONObject:
            return {**_shown(record), **sums}

        with access_log.changing(token_id=token.id):
            changes = bodies.token_changes(flask.request.get_json())
            return _shown(tokens.update(token.id, changes, patch.check(shown)))

    @routes.delete("/<uuid:token_id>")
    def revoke_token(token_id: uuid.UUID) -> flask.Response:
        token = tokens.get(str(token_id))
        with access_log.changing(token_id=token.id):
            tokens.revoke(token.id)
        return responses.no_content()

    @routes.post("/<uuid:token_id>/rotate")
    def rotate_token(token_id: uuid.UUID) -> JSONObject:
        token = tokens.get(str(token_id))
        with access_log.changing(token_id=token.id):
            return _shown(tokens.rotate(token.id, _grace_seconds()))

    def usage(record: TokenRecord) -> JSONObject:
        return {"usage": schemas.usage_sums(reports.totals(UsageFilter(token_id=record.id)))}

    return routes


def _shown(record: TokenRecord) -> JSONObject:
    """Return the schema `Token`, for a viewer without the token's value."""
    return schemas.token(record if auth.may_see_tokens() else replace(record, value=UNREADABLE))


def _grace_seconds() -> int:
    """Return the grace of a rotation; its body may be left out."""
    body = flask.request.get_json() if flask.request.get_data() else {}
    seconds: int = body.get("grace_seconds", 0)
    return seconds


def _flag(text: str) -> bool:
    """Read a boolean of the query. Raises InvalidRequest for yes, no, 1 and 0, which openapi-core accepts."""
    if text.lower() not in {"true", "false"}:
        raise InvalidRequest("The query parameter 'activeOnly' must be true or false.")
    return text.lower() == "true"
