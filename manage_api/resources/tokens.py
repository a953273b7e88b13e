"""`/manage/tokens`: tokens, over HTTP. A `tokenId` is a token's public id or the token itself."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import flask

from manage_api import access_log, read_only, responses, schemas
from manage_api.query import canonical, identifier, moment, parameter
from manage_api.schemas import JSONObject
from store import clock
from store.errors import InvalidRequest
from store.management.tokens import DEFAULT_EXPIRES_IN_DAYS, TokenChanges, TokenRecord, Tokens
from store.reports.usage_query import UsageFilter
from store.reports.usage_report import UsageReports
from store.store import Store


def blueprint(store: Store) -> flask.Blueprint:
    """Make the resource; requests have been checked against openapi.yaml when they get here."""
    routes = flask.Blueprint("tokens", __name__, url_prefix="/manage/tokens")
    tokens = Tokens(store)
    reports = UsageReports(store)

    @routes.get("")
    def list_tokens() -> list[JSONObject]:
        active_only = _flag(parameter("activeOnly") or "false")
        records = tokens.list(identifier("projectId"), active_only=active_only, expires_before=moment("expiresBefore"))
        return [schemas.token(record) for record in records]

    @routes.post("")
    def create_token() -> tuple[JSONObject, int]:
        body = flask.request.get_json()
        record = tokens.create(
            canonical(body["project_id"]),
            body.get("expires_in_days", DEFAULT_EXPIRES_IN_DAYS),
            body.get("max_requests", 0),
            expires_at=_moment(body["expires_at"]) if "expires_at" in body else None,
            name=body.get("name"),
        )
        access_log.changed(token_id=record.id)
        return schemas.token(record), 201

    @routes.get("/<uuid:token_id>")
    def get_token(token_id: uuid.UUID) -> JSONObject:
        record = tokens.get(str(token_id))
        return {**schemas.token(record), **usage(record)}

    @routes.patch("/<uuid:token_id>")
    def update_token(token_id: uuid.UUID) -> JSONObject:
        body = flask.request.get_json()
        token = tokens.get(str(token_id))
        # Sums of the ledger are read before the change: a report is a transaction of its own.
        sums = usage(token) if "usage" in body else {}
        check: Callable[[TokenRecord], None] | None = read_only.check(lambda record: {**schemas.token(record), **sums})
        with access_log.changing(token_id=token.id):
            return schemas.token(tokens.update(token.id, _changes(body), check))

    @routes.delete("/<uuid:token_id>")
    def revoke_token(token_id: uuid.UUID) -> flask.Response:
        token = tokens.get(str(token_id))
        with access_log.changing(token_id=token.id):
            tokens.revoke(token.id)
        return responses.no_content()

    def usage(record: TokenRecord) -> JSONObject:
        return {"usage": schemas.usage_sums(reports.totals(UsageFilter(token_id=record.id)))}

    return routes


def _changes(body: Mapping[str, Any]) -> TokenChanges:
    changes: TokenChanges = {}
    if "name" in body:
        changes["name"] = body["name"]
    if "is_active" in body:
        changes["is_active"] = body["is_active"]
    if "max_requests" in body:
        changes["max_requests"] = body["max_requests"]
    if "expires_at" in body:
        changes["expires_at"] = _moment(body["expires_at"])
    if "expires_in_days" in body:
        changes["expires_in_days"] = body["expires_in_days"]
    return changes


def _moment(text: str | None) -> int:
    """Read the end of a token in microseconds; null is never."""
    return clock.NEVER if text is None else clock.from_rfc3339(text)


def _flag(text: str) -> bool:
    """Read a boolean of the query: openapi-core takes yes, no, 1 and 0 too. Raises InvalidRequest."""
    if text.lower() not in {"true", "false"}:
        raise InvalidRequest("The query parameter 'activeOnly' must be true or false.")
    return text.lower() == "true"
