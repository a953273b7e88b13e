"""Errors, all in the form of OpenAI's error object."""

from http import HTTPStatus
from typing import Any

from tornado.web import HTTPError


class ApiError(HTTPError):
    """An error response: HTTP `status` and the fields of OpenAI's error object.

    `message` reaches the client, so it never quotes a key.
    """

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(status)
        self.body = error_body(message, code=code, param=param)


def invalid_api_key() -> ApiError:
    """Make the error for a missing or wrong key."""
    return ApiError(
        HTTPStatus.UNAUTHORIZED,
        "Incorrect API key provided. The demo upstream accepts only the key it was started with.",
        code="invalid_api_key",
    )


def invalid_request(message: str, *, code: str | None = None, param: str | None = None) -> ApiError:
    """Make the error for an invalid body, header or parameter."""
    return ApiError(HTTPStatus.BAD_REQUEST, message, code=code, param=param)


def missing_parameter(name: str) -> ApiError:
    """Make the error for a missing parameter `name`."""
    message = f"Missing required parameter: '{name}'."
    return invalid_request(message, code="missing_required_parameter", param=name)


def error_body(
    message: str, *, kind: str = "invalid_request_error", code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """Wrap `message` in OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def body_for(status: int, error: BaseException | None) -> dict[str, Any]:
    """Return the body for the exception that ended a request. Only the message of an `ApiError` is shown."""
    if isinstance(error, ApiError):
        return error.body
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return error_body("This method is not allowed on this path.", code="method_not_supported")
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return error_body(f"The request could not be understood ({HTTPStatus(status).phrase}).")
    return error_body("The demo upstream had an error while processing your request.", kind="server_error")
