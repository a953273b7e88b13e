"""Checks each request against openapi.yaml, the one place where the contract is written.

`faults` and `unknown_names` word the errors. They never quote a value that was sent.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import flask
from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.deserializing.styles.exceptions import EmptyQueryParameterValue
from openapi_core.templating.media_types.exceptions import MediaTypeNotFound
from openapi_core.validation.request.exceptions import MissingRequiredRequestBody, ParameterValidationError
from openapi_core.validation.schemas.exceptions import InvalidSchemaValue

from manage_api import faults, formats, unknown_names
from manage_api.auth import is_management
from manage_api.bodies import OPENAPI
from store.errors import InvalidRequest, RequestTooLarge, UnsupportedMediaType

MAX_BODY = 1024 * 1024
"""Bytes of a request's body at most."""

_NO_FIELDS = re.compile(rb"\s*(\{\s*\})?\s*")
"""An empty body, or an empty object, which some clients send where no body is expected."""


class _Operation(NamedTuple):
    """An operation of the contract: the schemas of its query's parameters, and whether it takes a body."""

    parameters: Mapping[str, Any]
    takes_body: bool


def register(app: flask.Flask) -> None:
    """Check each request to the management API, after it was authenticated.

    Raises RequestTooLarge, UnsupportedMediaType or InvalidRequest. Flask answers requests that no operation matches.
    """
    contract = _contract()
    operations = _operations(contract)

    def check() -> None:
        if not is_management(flask.request.path):
            return
        if (flask.request.content_length or 0) > MAX_BODY:
            raise RequestTooLarge
        if flask.request.url_rule is not None:
            request = _Request(flask.request)
            operation = operations[_template(flask.request.url_rule.rule), request.method]
            wrong = [*_unexpected(request, operation), *_faults(contract, request, operation)]
            if wrong:
                raise InvalidRequest(" ".join(dict.fromkeys(wrong)))

    app.before_request(check)


def read_only_fields() -> Mapping[str, object]:
    """Return the read-only fields of the body. Their values are not checked yet (see `patch`)."""
    fields: Mapping[str, object] = flask.g.get("read_only_fields", {})
    return fields


@functools.cache
def _contract() -> OpenAPI:
    """Read openapi.yaml, once a process. A test validates the file: that takes eight times as long as reading it."""
    config = Config(
        spec_validator_cls=None,
        extra_media_type_deserializers={"application/json": _parsed_by_flask},
        extra_format_validators={**formats.CHECKS},
    )
    return OpenAPI.from_file_path(str(OPENAPI), config=config)


def _operations(contract: OpenAPI) -> Mapping[tuple[str, str], _Operation]:
    """Return the operations, by the templates of their paths and their methods."""
    found = {}
    for path, item in (contract.spec / "paths").str_items():
        for method in item.str_keys():
            if method in {"get", "post", "put", "patch", "delete"}:
                parameters = [*item.get("parameters", ()), *(item / method).get("parameters", ())]
                query = {each["name"]: (each / "schema").read_value() for each in parameters if each["in"] == "query"}
                found[_template(path), method] = _Operation(query, takes_body="requestBody" in item / method)
    return found


def _template(path: str) -> str:
    """Normalise the path of an operation, or the rule of a view, to `/manage/tokens/{}`."""
    return re.sub(r"\{[^}]*\}|<[^>]*>", "{}", path)


class _Request:
    """A Flask request as openapi-core wants to see it."""

    def __init__(self, request: flask.Request) -> None:
        self.parameters = RequestParameters(query=request.args, header=request.headers)
        self.host_url = ""  # not compared: clients reach this port by any name
        self.path = request.path
        self.method = "get" if request.method == "HEAD" else request.method.lower()
        self.content_type = request.mimetype
        self.body = request.get_data()


def _parsed_by_flask(_body: bytes, **_parameters: str) -> object:
    """Parse the body by the application's own JSON provider, once: the views get the same object.

    Raises UnsupportedMediaType where the headers name another charset or a compression.
    """
    charset = flask.request.mimetype_params.get("charset", "utf-8")
    encoding = flask.request.content_encoding or "identity"
    if (charset.lower(), encoding.lower()) != ("utf-8", "identity"):
        raise UnsupportedMediaType
    return flask.request.get_json()


def _unexpected(request: _Request, operation: _Operation) -> Iterator[str]:
    """Name unknown parameters, and a body where none is expected: openapi-core lets both pass."""
    unknown = [name for name in request.parameters.query if name not in operation.parameters]
    if unknown:
        yield f"The query {unknown_names.complaint('parameter', unknown, list(operation.parameters))}."
    if not operation.takes_body and not _NO_FIELDS.fullmatch(request.body):
        yield "This request takes no body: send none."


def _faults(contract: OpenAPI, request: _Request, operation: _Operation) -> Iterator[str]:
    for error in contract.iter_request_errors(request):
        if isinstance(error, ParameterValidationError):
            yield from _parameter_faults(error, operation.parameters[error.name])
        else:
            yield from _body_faults(error)


def _parameter_faults(error: ParameterValidationError, schema: Mapping[str, Any]) -> Iterator[str]:
    subject = faults.parameter(error.name)(())
    match error.__cause__:
        case InvalidSchemaValue(schema_errors=found):
            sentences = [*faults.sentences(found, faults.parameter(error.name))]
            yield from sentences
            if " " in flask.request.args[error.name] and faults.FORMATS["date-time"] in sentences[0]:
                yield "A + is written as %2B in a query."
        case EmptyQueryParameterValue():
            yield f"{subject} must not be empty."
        case _:
            yield f"{subject} {faults.unreadable(schema)}."


def _body_faults(error: Exception) -> Iterator[str]:
    if isinstance(error, MissingRequiredRequestBody):
        yield "The body is missing: send a JSON object."
        return
    match error.__cause__:
        case MediaTypeNotFound():
            raise UnsupportedMediaType
        case InvalidSchemaValue() as cause:
            found: list[faults.Fault] = [*cause.schema_errors]
            read_only = [fault for fault in found if fault.validator == "readOnly"]
            flask.g.read_only_fields = {fault.absolute_path[0]: fault.instance for fault in read_only}
            yield from faults.sentences((fault for fault in found if fault.validator != "readOnly"), faults.field)
        case _:
            yield InvalidRequest.text
