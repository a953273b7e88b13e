"""How the store's records look outside, as the schemas of openapi.yaml have them."""

import flask

from store.clock import to_rfc3339
from store.management.projects import ProjectRecord
from store.management.tokens import RevokedTokens, TokenRecord

type JSONObject = dict[str, object]


def project(record: ProjectRecord) -> JSONObject:
    """Return the schema `Project`."""
    return {
        "id": record.id,
        "name": record.name,
        "is_active": record.is_active,
        "created_at": to_rfc3339(record.created_at),
        "updated_at": to_rfc3339(record.updated_at),
        "api_key_updated_at": _time(record.api_key_updated_at),
    }


def token(record: TokenRecord) -> JSONObject:
    """Return the schema `Token`, with the token itself in it."""
    return {
        "id": record.id,
        "name": record.name,
        "token": record.value,
        "project_id": record.project_id,
        "expires_at": to_rfc3339(record.expires_at),
        "is_active": record.is_active,
        "request_count": record.request_count,
        "max_requests": record.max_requests,
        "created_at": to_rfc3339(record.created_at),
        "last_used_at": _time(record.last_used_at),
    }


def revoked(tokens: RevokedTokens) -> JSONObject:
    """Return the answer to a bulk revoke. Tokens whose revoke the store did not confirm count as failed."""
    return {
        "revoked_count": tokens.revoked,
        "already_revoked_count": tokens.already_revoked,
        "total_tokens": tokens.total,
        "failed_count": tokens.failed,
    }


def nothing() -> flask.Response:
    """Return 204, without a type for the body that it does not have."""
    response = flask.Response(status=204)
    del response.headers["Content-Type"]
    return response


def _time(microseconds: int | None) -> str | None:
    return None if microseconds is None else to_rfc3339(microseconds)
