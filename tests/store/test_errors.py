import json
from typing import Any

import pytest
from support.errors import every_kind

from store import errors
from store.errors import GatewayError
from store.limits.window import Standing

type Row = tuple[type[GatewayError], int, str, str]

TABLE: list[Row] = [
    (errors.GatewayError, 500, "internal_error", "server_error"),
    (errors.InvalidRequest, 400, "invalid_request", "invalid_request_error"),
    (errors.InactiveNotRotated, 400, "token_inactive", "invalid_request_error"),
    (errors.ExpiredNotRotated, 400, "token_expired", "invalid_request_error"),
    (errors.Unauthorized, 401, "unauthorized", "authentication_error"),
    (errors.InvalidToken, 401, "invalid_token", "authentication_error"),
    (errors.TokenInactive, 401, "token_inactive", "authentication_error"),
    (errors.TokenExpired, 401, "token_expired", "authentication_error"),
    (errors.ProjectInactive, 403, "project_inactive", ""),
    (errors.IpNotAllowed, 403, "ip_not_allowed", ""),
    (errors.ModelNotAllowed, 403, "model_not_allowed", ""),
    (errors.ModelNotPriced, 403, "model_not_priced", ""),
    (errors.CostNotBounded, 403, "cost_not_bounded", ""),
    (errors.ModelNotFound, 404, "model_not_found", "invalid_request_error"),
    (errors.EndpointNotAllowed, 403, "endpoint_not_allowed", ""),
    (errors.DestinationRefused, 403, "destination_refused", ""),
    (errors.NotFound, 404, "not_found", "invalid_request_error"),
    (errors.MethodNotAllowed, 405, "method_not_allowed", "invalid_request_error"),
    (errors.RequestTimeout, 408, "request_timeout", "invalid_request_error"),
    (errors.RequestTooLarge, 413, "request_too_large", "invalid_request_error"),
    (errors.UnsupportedMediaType, 415, "unsupported_media_type", "invalid_request_error"),
    (errors.ExpectationFailed, 417, "expectation_failed", "invalid_request_error"),
    (errors.QuotaExhausted, 429, "insufficient_quota", "rate_limit_error"),
    (errors.RateLimited, 429, "rate_limit_exceeded", "rate_limit_error"),
    (errors.TooManyParallel, 429, "too_many_parallel_requests", "rate_limit_error"),
    (errors.HeadersTooLarge, 431, "headers_too_large", "invalid_request_error"),
    (errors.TransferEncodingUnknown, 501, "transfer_encoding_unknown", "server_error"),
    (errors.RoleNotAllowed, 403, "role_not_allowed", "invalid_request_error"),
    (errors.FormRefused, 403, "form_refused", "invalid_request_error"),
    (errors.Conflict, 409, "conflict", "invalid_request_error"),
    (errors.LastAdmin, 409, "last_admin", "invalid_request_error"),
    (errors.FormRepeated, 409, "form_repeated", "invalid_request_error"),
    (errors.TooManyWrongTokens, 429, "too_many_wrong_tokens", "rate_limit_error"),
    (errors.ServiceUnavailable, 503, "service_unavailable", ""),
    (errors.UpstreamKeyRejected, 503, "upstream_key_rejected", ""),
    (errors.StoreUnavailable, 503, "store_unavailable", ""),
    (errors.StoreLocked, 503, "store_unavailable", ""),
    (errors.StoreUnreachable, 503, "store_unavailable", ""),
    (errors.OutcomeUnknown, 503, "store_unavailable", ""),
    (errors.UpstreamTimeout, 504, "upstream_timeout", "server_error"),
]
each = pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0].__name__)


def make(kind: type[GatewayError]) -> GatewayError:
    if kind is errors.RateLimited:
        limited = errors.RateLimited("Too many.", Standing(60, 0, 1000))
        limited.wait_for(1001)
        return limited
    if kind is errors.TooManyWrongTokens:
        return errors.TooManyWrongTokens(6)
    return errors.MethodNotAllowed("GET, HEAD") if kind is errors.MethodNotAllowed else kind()


def test_table_names_every_error() -> None:
    only_a_kind = {errors.TokenRefused}
    assert {row[0] for row in TABLE} == every_kind(GatewayError) - only_a_kind


@each
def test_error_has_its_status_and_code(row: Row) -> None:
    kind, status, code, _ = row
    error = make(kind)
    assert (error.status, error.code) == (status, code)
    assert error.message
    assert str(error) == error.message


@each
def test_management_body_satisfies_both_schemas(row: Row) -> None:
    kind, _, code, _ = row
    error = make(kind)
    assert error.body() == {"error": error.message, "code": code, "message": error.message}


@each
def test_proxy_body_is_read_by_openai_sdks(row: Row) -> None:
    kind, status, code, openai_type = row
    error = make(kind)
    body: dict[str, Any] = json.loads(json.dumps(error.openai_body()))
    assert (body["code"], body["message"]) == (code, error.message)
    if status in {403, 503}:
        assert body["error"] == error.message
    else:
        assert body["error"] == {"message": error.message, "type": openai_type, "param": None, "code": code}


@each
def test_headers_match_the_status(row: Row) -> None:
    kind, status, _, _ = row
    by_status = {401: {"WWW-Authenticate": "Bearer"}, 405: {"Allow": "GET, HEAD"}}
    no_retry = {"x-should-retry": "false"}
    by_kind: dict[type[GatewayError], dict[str, str]] = {
        errors.QuotaExhausted: no_retry,
        errors.UpstreamKeyRejected: no_retry,
        errors.RateLimited: {"retry-after-ms": "2", "Retry-After": "1"},
        errors.TooManyParallel: {"Retry-After": "1"},
        errors.TooManyWrongTokens: {"Retry-After": "6"},
    }
    expected = by_kind.get(kind, by_status.get(status, {}))
    assert make(kind).headers == expected


def test_message_replaces_the_text_and_description_is_added() -> None:
    error = errors.InvalidRequest("Too long.", "At most 10.")
    expected = {"error": "Too long.", "code": "invalid_request", "message": "Too long.", "description": "At most 10."}
    assert error.body() == expected
    assert errors.ProjectInactive(description="Switch it on.").openai_body()["description"] == "Switch it on."
    assert errors.InvalidRequest.text != "Too long."


def test_inactive_project_has_the_text_of_the_contract() -> None:
    assert errors.ProjectInactive().body()["error"] == "Project is inactive"


def test_unreachable_upstream_has_the_text_of_the_contract() -> None:
    assert errors.ServiceUnavailable().body()["error"] == "Service temporarily unavailable"


def test_locked_store_is_an_unavailable_one() -> None:
    assert issubclass(errors.StoreLocked, errors.StoreUnavailable)
    assert not issubclass(errors.StartupError, GatewayError)


def test_headers_of_one_error_leave_its_class_alone() -> None:
    error = errors.QuotaExhausted()
    error.headers = {**error.headers, "Retry-After": "1"}
    assert error.headers == {"x-should-retry": "false", "Retry-After": "1"}
    assert errors.QuotaExhausted().headers == {"x-should-retry": "false"}
