"""`/manage/tokens`: tokens, over HTTP. A `tokenId` is a token's public id or the token itself."""

import uuid

import flask

from manage_api import answers
from manage_api.answers import JSONObject
from store.bootstrap import Store
from store.errors import InvalidRequest
from store.tokens import DEFAULT_EXPIRES_IN_DAYS, TokenChanges, Tokens


def blueprint(store: Store) -> flask.Blueprint:
    """Make the resource; requests have been checked against openapi.yaml when they get here."""
    routes = flask.Blueprint("tokens", __name__, url_prefix="/manage/tokens")
    tokens = Tokens(store)

    @routes.get("")
    def list_tokens() -> list[JSONObject]:
        project_id = _parameter("projectId")
        active_only = _flag(_parameter("activeOnly") or "false")
        records = tokens.list(project_id and _canonical(project_id), active_only=active_only)
        return [answers.token(record) for record in records]

    @routes.post("")
    def create_token() -> tuple[JSONObject, int]:
        body = flask.request.get_json()
        record = tokens.create(
            _canonical(body["project_id"]),
            body.get("expires_in_days", DEFAULT_EXPIRES_IN_DAYS),
            body.get("max_requests", 0),
        )
        return answers.token(record), 201

    @routes.get("/<uuid:token_id>")
    def get_token(token_id: uuid.UUID) -> JSONObject:
        return answers.token(tokens.get(str(token_id)))

    @routes.patch("/<uuid:token_id>")
    def update_token(token_id: uuid.UUID) -> JSONObject:
        body = flask.request.get_json()
        changes: TokenChanges = {}
        if "is_active" in body:
            changes["is_active"] = body["is_active"]
        if "max_requests" in body:
            changes["max_requests"] = body["max_requests"]
        return answers.token(tokens.update(str(token_id), changes))

    @routes.delete("/<uuid:token_id>")
    def revoke_token(token_id: uuid.UUID) -> flask.Response:
        tokens.revoke(str(token_id))
        return answers.nothing()

    return routes


def _parameter(name: str) -> str | None:
    """Return a parameter of the query. Raises InvalidRequest for a repeated one: nobody knows which is meant."""
    values = flask.request.args.getlist(name)
    if len(values) > 1:
        raise InvalidRequest(f"The query parameter '{name}' is given more than once.")
    return values[0] if values else None


def _flag(text: str) -> bool:
    """Read a boolean of the query: openapi-core takes yes, no, 1 and 0 too. Raises InvalidRequest."""
    if text.lower() not in {"true", "false"}:
        raise InvalidRequest("The query parameter 'activeOnly' is invalid: true or false.")
    return text.lower() == "true"


def _canonical(text: str) -> str:
    """Write a UUID as the store does: in lower case."""
    return str(uuid.UUID(text))
