"""What a request must look like is said once, in openapi.yaml, and enforced from there.

The messages too: they quote the descriptions in openapi.yaml, and never what was sent.
"""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from openapi_core.templating.media_types.exceptions import MediaTypeNotFound
from openapi_core.validation.request.exceptions import (
    MissingRequiredRequestBody,
    ParameterValidationError,
    RequestBodyValidationError,
)
from openapi_core.validation.schemas.exceptions import InvalidSchemaValue

from manage_api.auth import is_management
from store.clock import from_rfc3339
from store.errors import GatewayError, InvalidRequest, RequestTooLarge, UnsupportedMediaType

OPENAPI = Path(__file__).with_name("openapi.yaml")

MAX_BODY = 1024 * 1024
"""Bytes that a request's body may have."""

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)


def register(app: flask.Flask) -> None:
    """Check each request to the management API, after it was authenticated.

    Raises RequestTooLarge, UnsupportedMediaType or InvalidRequest. What has no operation is left to Flask.
    """
    contract = _contract()

    def check() -> None:
        if not is_management(flask.request.path):
            return
        if (flask.request.content_length or 0) > MAX_BODY:
            raise RequestTooLarge
        if flask.request.routing_exception is None:
            _validate(contract, flask.request)

    app.before_request(check)


@functools.cache
def _contract() -> OpenAPI:
    """Read openapi.yaml: once a process, as it takes longer than all the rest of an application."""
    config = Config(
        extra_media_type_deserializers={"application/json": _parsed_by_flask},
        extra_format_validators={"uuid": _is_uuid, "date": _is_time, "date-time": _is_time},
    )
    return OpenAPI.from_file_path(str(OPENAPI), config=config)


class _Request:
    """A Flask request as openapi-core wants to see it."""

    def __init__(self, request: flask.Request) -> None:
        self.parameters = RequestParameters(query=request.args, header=request.headers)
        self.host_url = ""  # whatever name this port is reached by
        self.path = request.path
        self.method = "get" if request.method == "HEAD" else request.method.lower()
        self.content_type = request.mimetype
        self.body = request.get_data()


def _parsed_by_flask(_body: bytes, **_parameters: str) -> object:
    """Have the body parsed once, by the application's own JSON provider: views get the same object.

    Raises UnsupportedMediaType where the headers tell of another charset or of a compression.
    """
    charset = flask.request.mimetype_params.get("charset", "utf-8")
    encoding = flask.request.content_encoding or "identity"
    if (charset.lower(), encoding.lower()) != ("utf-8", "identity"):
        raise UnsupportedMediaType
    return flask.request.get_json()


def _is_uuid(value: object) -> bool:
    """Tell whether a text is a UUID as RFC 9562 writes it; Python's own reader takes the digits of any script."""
    return not isinstance(value, str) or _UUID.fullmatch(value) is not None


def _is_time(value: object) -> bool:
    """Tell whether a text is a time, or a day, as queries have them."""
    try:
        if isinstance(value, str):
            from_rfc3339(value)
    except ValueError:
        return False
    return True


def _validate(contract: OpenAPI, request: flask.Request) -> None:
    try:
        contract.validate_request(_Request(request))
    except ParameterValidationError as error:
        text = _parameter_description(contract, request.path, error.name)
        raise InvalidRequest(f"The query parameter '{error.name}' is invalid: {text}") from None
    except RequestBodyValidationError as error:
        raise _body_error(error) from None


def _parameter_description(contract: OpenAPI, path: str, name: str) -> str:
    """Return what openapi.yaml says about a parameter of a query; only GET has them."""
    for parameter in contract.spec / "paths" / path / "get" / "parameters":
        if parameter["name"] == name:
            return str(parameter["description"])
    return ""


def _body_error(error: OpenAPIError) -> GatewayError:
    if isinstance(error, MissingRequiredRequestBody):
        return InvalidRequest("The body is missing: send a JSON object.")
    match error.__cause__:
        case MediaTypeNotFound():
            return UnsupportedMediaType()
        case InvalidSchemaValue(schema_errors=faults):
            messages = dict.fromkeys(message for fault in faults for message in _messages(fault))
            return InvalidRequest(" ".join(messages))
    return InvalidRequest()


def _messages(fault: Any) -> Iterator[str]:
    """Say of a jsonschema ValidationError which field is wrong and what it has to be."""
    if fault.validator == "required":
        for name in fault.validator_value:
            if name not in fault.instance:
                yield f"The field '{name}' is missing: {fault.schema['properties'][name]['description']}"
    elif fault.path:
        yield f"The field '{fault.path[0]}' is invalid: {fault.schema['description']}"
    else:
        yield f"The body is invalid: {fault.schema['description']}"
