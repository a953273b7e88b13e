"""Every error that a caller can see, with its HTTP status, code, headers and body.

    GatewayError                    500 internal_error
      InvalidRequest                400 invalid_request
        InactiveNotRotated          400 token_inactive
        ExpiredNotRotated           400 token_expired
      Unauthorized                  401 unauthorized           (the management port)
      InvalidToken                  401 invalid_token
      TokenRefused                                           (a known token may not make this request)
        TokenInactive               401 token_inactive
        TokenExpired                401 token_expired
        ProjectInactive             403 project_inactive
        IpNotAllowed                403 ip_not_allowed
        EndpointNotAllowed          403 endpoint_not_allowed
        ModelNotAllowed             403 model_not_allowed
        ModelNotPriced              403 model_not_priced
        CostNotBounded              403 cost_not_bounded
        ModelNotFound               404 model_not_found
        QuotaExhausted              429 insufficient_quota
        RateLimited                 429 rate_limit_exceeded
        TooManyParallel             429 too_many_parallel_requests
      DestinationRefused            403 destination_refused
      NotFound                      404 not_found
      RoleNotAllowed                403 role_not_allowed       (the management port)
      FormRefused                   403 form_refused           (its pages)
      MethodNotAllowed              405 method_not_allowed
      RequestTimeout                408 request_timeout
      Conflict                      409 conflict
        LastAdmin                   409 last_admin
        FormRepeated                409 form_repeated          (the pages)
      RequestTooLarge               413 request_too_large
      UnsupportedMediaType          415 unsupported_media_type
      ExpectationFailed             417 expectation_failed
      TooManyWrongTokens            429 too_many_wrong_tokens  (the management port)
      HeadersTooLarge               431 headers_too_large
      TransferEncodingUnknown       501 transfer_encoding_unknown
      ServiceUnavailable            503 service_unavailable    (the upstream)
      UpstreamKeyRejected           503 upstream_key_rejected  (the upstream's 401)
      StoreUnavailable              503 store_unavailable
        StoreLocked                 503 store_unavailable      (another transaction is in the way: try again)
        StoreUnreachable            503 store_unavailable      (no connection: try again in a moment)
        OutcomeUnknown              503 store_unavailable      (a COMMIT without an answer)
      UpstreamTimeout               504 upstream_timeout
    StartupError                    ends a process before it serves anything
    BackupFailed                    ends a backup; there is no file
    CopyFailed                      ends a copy of the store; the target is as it was

No message may hold a secret: they go to clients and to logs.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from store.limits.window import Standing
    from store.request import Refused

type ErrorBody = dict[str, object]

_BEARER = MappingProxyType({"WWW-Authenticate": "Bearer"})
_NO_RETRY = MappingProxyType({"x-should-retry": "false"})


class GatewayError(Exception):
    """An error that is answered with its own status, code and message.

    `message` replaces the class's text; `description` adds details. `headers` begin as those of the class.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    text: ClassVar[str] = "The gateway met an internal error; its log says more."
    class_headers: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __init__(self, message: str | None = None, description: str | None = None) -> None:
        self.message = message or self.text
        self.description = description
        self.headers: Mapping[str, str] = self.class_headers
        super().__init__(self.message)

    def body(self) -> ErrorBody:
        """Return the contract's schemas `Error` and `ErrorResponse` in one object."""
        body: ErrorBody = {"error": self.message, "code": self.code, "message": self.message}
        if self.description:
            body["description"] = self.description
        return body

    def openai_body(self) -> ErrorBody:
        """Return the body for an OpenAI client on the proxy's port.

        OpenAI's SDKs read `code` and `message` inside `error`. The contract has `error` as a text for 403 and
        503, and a schema (`Error`) that leaves it free for all other statuses.
        """
        if self.status in {403, 503}:
            return self.body()
        return {"error": self.detail(), "code": self.code, "message": self.message}

    def detail(self) -> ErrorBody:
        """Return the object that OpenAI's SDKs read as the error of an answer, or of an event."""
        return {"message": self.message, "type": self._openai_type(), "param": None, "code": self.code}

    def _openai_type(self) -> str:
        if self.status >= 500:  # noqa: PLR2004 - a status class
            return "server_error"
        return {401: "authentication_error", 429: "rate_limit_error"}.get(self.status, "invalid_request_error")


class InvalidRequest(GatewayError):
    """The request itself is wrong; the message says what to change."""

    status = 400
    code = "invalid_request"
    text = "The request is invalid."


class InactiveNotRotated(InvalidRequest):
    """A revoked token gets no new value. Here the request is wrong, and not the caller's own token."""

    code = "token_inactive"
    text = "The token has been revoked: restore it (PATCH is_active) before you rotate it, or create another one."


class ExpiredNotRotated(InvalidRequest):
    """An expired token gets no new value."""

    code = "token_expired"
    text = "The token has expired: set a later expiry (PATCH expires_at) before you rotate it, or create another one."


class Unauthorized(GatewayError):
    """No management token, or a wrong one."""

    status = 401
    code = "unauthorized"
    text = "Send the management token in the header 'Authorization: Bearer <management token>'."
    class_headers = _BEARER


class RoleNotAllowed(GatewayError):
    """The administrator is a viewer, and the request is none that reads."""

    status = 403
    code = "role_not_allowed"
    text = "The token is that of a viewer, who reads everything and changes nothing: send an administrator's."


class FormRefused(GatewayError):
    """A form of the pages was not sent by a page of this session."""

    status = 403
    code = "form_refused"
    text = "This form does not come from a page of your present session: go back, reload the page, and send it again."


class TooManyWrongTokens(GatewayError):
    """Too many wrong management tokens came from one address; right ones from there are accepted at once."""

    status = 429
    code = "too_many_wrong_tokens"
    text = "Too many wrong tokens came from this address."

    def __init__(self, seconds: int) -> None:
        super().__init__(f"{self.text} The right one is accepted at once; another one is looked at in {seconds} s.")
        self.headers = {"Retry-After": str(seconds)}


class InvalidToken(GatewayError):
    """No token, a malformed one, or one that the store does not know."""

    status = 401
    code = "invalid_token"
    text = "The token is missing, malformed or unknown. Send a proxy token as 'Authorization: Bearer <token>'."
    class_headers = _BEARER


class TokenRefused(GatewayError):
    """A known token may not make a request. `refused` names the request and the token; None where there was none."""

    refused: "Refused | None" = None


class TokenInactive(TokenRefused):
    """The token was revoked."""

    status = 401
    code = "token_inactive"
    text = "The token has been revoked."
    class_headers = _BEARER


class TokenExpired(TokenRefused):
    """The token has expired."""

    status = 401
    code = "token_expired"
    text = "The token has expired."
    class_headers = _BEARER


class ProjectInactive(TokenRefused):
    """The project of the token is switched off."""

    status = 403
    code = "project_inactive"
    text = "Project is inactive"


class IpNotAllowed(TokenRefused):
    """A policy does not allow the client's address."""

    status = 403
    code = "ip_not_allowed"
    text = "Requests from this address are not allowed."


class EndpointNotAllowed(TokenRefused):
    """A policy does not allow this endpoint, or no token may reach it unless a policy writes it out."""

    status = 403
    code = "endpoint_not_allowed"
    text = (
        "This endpoint is closed to tokens: it hands out credentials or sessions of the provider's that work past the "
        "gateway, or it manages the provider's account. Use it with the provider's own key, outside of the gateway; "
        "for Realtime, open a WebSocket at /v1/realtime."
    )


class ModelNotAllowed(TokenRefused):
    """A policy does not allow a model that the request asks for, or that cannot be told."""

    status = 403
    code = "model_not_allowed"
    text = "This model is not allowed."


class ModelNotPriced(TokenRefused):
    """A budget needs a price of the model, and there is none."""

    status = 403
    code = "model_not_priced"
    text = "The model has no price."


class CostNotBounded(TokenRefused):
    """A budget needs a bound of what the request costs, and there is none."""

    status = 403
    code = "cost_not_bounded"
    text = "The cost of this request has no bound."


class ModelNotFound(TokenRefused):
    """The model that is looked up is none of those that the token may use."""

    status = 404
    code = "model_not_found"
    text = "The model does not exist, or this token may not use it."


class DestinationRefused(GatewayError):
    """A request was about to go to another destination than the configured upstream."""

    status = 403
    code = "destination_refused"
    text = "Requests go to the configured upstream only."


class NotFound(GatewayError):
    """The path, or the object that it names, does not exist."""

    status = 404
    code = "not_found"
    text = "Not found."


class MethodNotAllowed(GatewayError):
    """The path exists, the method does not."""

    status = 405
    code = "method_not_allowed"
    text = "The method is not allowed here."

    def __init__(self, allowed: str) -> None:
        super().__init__(f"The method is not allowed here; allowed: {allowed}.")
        self.headers = {"Allow": allowed}


class RequestTimeout(GatewayError):
    """The client began a request and did not complete it in time."""

    status = 408
    code = "request_timeout"
    text = "The request did not arrive in time."


class Conflict(GatewayError):
    """The request does not go with what is there now: the message says with what."""

    status = 409
    code = "conflict"
    text = "The request does not go with what is there now."


class LastAdmin(Conflict):
    """The last enabled administrator stays: without one the management API would be closed to all."""

    code = "last_admin"
    text = "There is no other enabled administrator with the role admin: create or enable one first."


class FormRepeated(Conflict):
    """A form of the pages was sent a second time. What it made is there already, and is not shown again."""

    code = "form_repeated"
    text = "This form was sent already: look whether what it makes is there. To make another one, open the form again."


class RequestTooLarge(GatewayError):
    """The body is larger than this port takes."""

    status = 413
    code = "request_too_large"
    text = "The request body is too large."


class UnsupportedMediaType(GatewayError):
    """The Content-Type is not JSON in plain UTF-8."""

    status = 415
    code = "unsupported_media_type"
    text = "Send the body as JSON in plain UTF-8, with 'Content-Type: application/json'."


class ExpectationFailed(GatewayError):
    """The Expect header asks for something else than `100-continue`."""

    status = 417
    code = "expectation_failed"
    text = "Send 'Expect: 100-continue', or no Expect header."


class QuotaExhausted(TokenRefused):
    """The token has used all of its requests, or a budget is spent.

    Only a higher limit helps, or the next period of the budget, so SDKs must not retry.
    """

    status = 429
    code = "insufficient_quota"
    text = "The token has used all of its requests."
    class_headers = _NO_RETRY


class RateLimited(TokenRefused):
    """Too much in a window, or too much reserved of a budget. `window` is the standing of a window of requests.

    It passes with time, unless the request needs more than the whole window: SDKs must not retry it then.
    """

    status = 429
    code = "rate_limit_exceeded"
    text = "There were too many requests."

    def __init__(self, message: str, window: "Standing | None" = None, *, passes: bool = True) -> None:
        super().__init__(message)
        self.window = window
        self.passes = passes
        if not passes:
            self.headers = _NO_RETRY

    def wait_for(self, microseconds: int) -> None:
        """Tell the client to try again after a time, and not before."""
        milliseconds = -(-microseconds // 1000)
        self.headers = {"retry-after-ms": str(milliseconds), "Retry-After": str(-(-milliseconds // 1000))}


class TooManyParallel(TokenRefused):
    """As many requests as may be under way at once are under way."""

    status = 429
    code = "too_many_parallel_requests"
    text = "Too many requests are under way at once."
    class_headers = MappingProxyType({"Retry-After": "1"})


class HeadersTooLarge(GatewayError):
    """The request's headers are larger than this port reads."""

    status = 431
    code = "headers_too_large"
    text = "The request's headers are too large."


class TransferEncodingUnknown(GatewayError):
    """The request has a transfer encoding that this port does not read."""

    status = 501
    code = "transfer_encoding_unknown"
    text = "Send the body with a Content-Length, or with 'Transfer-Encoding: chunked'."


class ServiceUnavailable(GatewayError):
    """The upstream cannot be reached, or closed the connection before it answered."""

    status = 503
    code = "service_unavailable"
    text = "Service temporarily unavailable"


class UpstreamKeyRejected(GatewayError):
    """The upstream answered 401: the project's key is bad, which is not the caller's fault. SDKs must not retry."""

    status = 503
    code = "upstream_key_rejected"
    text = "The upstream rejected the project's API key. The token is good; the project needs a key that works."
    class_headers = _NO_RETRY


class StoreUnavailable(GatewayError):
    """The store cannot decide now. Nothing was counted."""

    status = 503
    code = "store_unavailable"
    text = "The gateway's store is temporarily unavailable; nothing was changed. Try again."


class StoreLocked(StoreUnavailable):
    """Another transaction holds a lock for too long; the store is well. Nothing was written."""


class StoreUnreachable(StoreUnavailable):
    """There is no connection to the store, or it broke; a new one may work. Nothing was written."""


class OutcomeUnknown(StoreUnavailable):
    """The outcome of a COMMIT is unknown, and could not be looked up in time."""

    text = "The gateway's store stopped answering in the middle of the change. See whether it was made, then try again."


class UpstreamTimeout(GatewayError):
    """The upstream received the request and did not answer in time."""

    status = 504
    code = "upstream_timeout"
    text = "The upstream did not answer in time."


REFUSAL_CODES = tuple(kind.code for kind in TokenRefused.__subclasses__())
"""The codes of the refusals of known tokens."""

_ENDS = (
    *(UpstreamKeyRejected, UpstreamTimeout, ServiceUnavailable, StoreUnavailable, RequestTimeout, RequestTooLarge),
    *(InvalidRequest, NotFound, DestinationRefused, GatewayError),
)

REQUEST_CODES = (InvalidToken.code, *REFUSAL_CODES, *(kind.code for kind in _ENDS))
"""The codes that a listed request may have: of its refusal, or of the error with which the gateway ended it."""


class StartupError(Exception):
    """A process cannot start; the message tells the operator what to do."""


class BackupFailed(Exception):
    """No backup was made; the message says why."""


class CopyFailed(Exception):
    """No copy was made; the message says why, and the target is as it was."""
