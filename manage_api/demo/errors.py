"""The one place that makes errors, all of them in OpenAI's shape."""

from http import HTTPStatus
from typing import Any

from tornado.web import HTTPError


class ApiError(HTTPError):
    """An answer other than success: HTTP `status` and the fields of OpenAI's error object.

    `message` reaches the client, so it never repeats a key.
    """

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(status)
        self.body = error_body(message, code=code, param=param)


def invalid_api_key() -> ApiError:
    """Refuse a key, or its absence."""
    return ApiError(
        HTTPStatus.UNAUTHORIZED,
        "Incorrect API key provided. The demo upstream accepts only the key it was started with.",
        code="invalid_api_key",
    )


def invalid_request(message: str, *, code: str | None = None, param: str | None = None) -> ApiError:
    """Refuse a request whose body, headers or parameters make no sense."""
    return ApiError(HTTPStatus.BAD_REQUEST, message, code=code, param=param)


def missing_parameter(name: str) -> ApiError:
    """Refuse a request without the required parameter `name`."""
    message = f"Missing required parameter: '{name}'."
    return invalid_request(message, code="missing_required_parameter", param=name)


def error_body(
    message: str, *, kind: str = "invalid_request_error", code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """Wrap `message` in OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def body_for(status: int, error: BaseException | None) -> dict[str, Any]:
    """Translate whatever ended a request. Only an `ApiError` gets to say why."""
    if isinstance(error, ApiError):
        return error.body
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return error_body("This method is not allowed on this path.", code="method_not_supported")
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return error_body(f"The request could not be understood ({HTTPStatus(status).phrase}).")
    return error_body("The demo upstream had an error while processing your request.", kind="server_error")
