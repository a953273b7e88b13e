"""Says in plain words how a request ended, what to do about it, and how its usage is known."""

from collections.abc import Mapping
from typing import NamedTuple

from store import errors
from store.ledger.usage import Source
from store.reports.request_list import RequestRecord


class Words(NamedTuple):
    """A sentence that says why, and one that says what to do; empty where there is nothing to do."""

    why: str
    advice: str = ""


_RIGHTS = "Look at what the token and its project allow, and add it there if the request was meant to work."

OF_CODES: Mapping[str, Words] = {
    errors.InvalidToken.code: Words(
        "The token was deleted while the request ran.", "Give the application a token of another project."
    ),
    errors.TokenInactive.code: Words(
        errors.TokenInactive.text, "If it was revoked by mistake, restore it; else give the application another one."
    ),
    errors.TokenExpired.code: Words(
        errors.TokenExpired.text, "Set a later expiry, or give the application another token."
    ),
    errors.ProjectInactive.code: Words(
        "The token's project is switched off.", "Switch the project on: its tokens work again at once."
    ),
    errors.IpNotAllowed.code: Words(
        "The client's address is none of those that the token and its project allow.", _RIGHTS
    ),
    errors.EndpointNotAllowed.code: Words(
        "The endpoint is none of those that the token and its project allow, or one that is closed to tokens as it "
        "hands out credentials or manages the provider's account.",
        f"{_RIGHTS} A closed endpoint must be written out there.",
    ),
    errors.ModelNotAllowed.code: Words(
        "The request asks for a model that the token or its project does not allow, or the model could not be told.",
        _RIGHTS,
    ),
    errors.ModelNotPriced.code: Words(
        "The token or its project has a budget, and there is no price for this model: its cost could not be counted.",
        "Set a price for the model.",
    ),
    errors.CostNotBounded.code: Words(
        "The token or its project has a budget, and nothing bounds what this request may cost.",
        "Have the application set a bound, such as max_completion_tokens, or use a token without a budget.",
    ),
    errors.ModelNotFound.code: Words(errors.ModelNotFound.text, _RIGHTS),
    errors.QuotaExhausted.code: Words(
        "The token has used all of its requests, or a budget of the token or its project is spent.",
        "Raise the limit, or wait for the budget's next period.",
    ),
    errors.RateLimited.code: Words(
        "There were more requests or tokens in a window than the token or its project may have, or the rest of a "
        "budget is reserved for running requests.",
        "It passes with time: have the application wait as Retry-After says, or raise the limit.",
    ),
    errors.TooManyParallel.code: Words(
        "As many requests of the token or its project as may be under way at once were under way.",
        "Have the application send fewer at once, or raise the limit.",
    ),
    errors.UpstreamKeyRejected.code: Words(
        errors.UpstreamKeyRejected.text, "Give the project an upstream key that works."
    ),
    errors.UpstreamTimeout.code: Words(
        errors.UpstreamTimeout.text, "Try again; if it stays, see the provider's status, or raise FIRST_BYTE_TIMEOUT."
    ),
    errors.ServiceUnavailable.code: Words(
        "The upstream could not be reached, or closed the connection before its answer was complete.",
        "Try again; if it stays, see the provider's status and the gateway's log.",
    ),
    errors.StoreUnavailable.code: Words(
        "The gateway's store did not answer, so that the request could not be counted.",
        "Try again; if it stays, look at the database and the gateway's log.",
    ),
    errors.RequestTimeout.code: Words(
        "The client did not send the whole request in time.", "Look at the client's network, then try again."
    ),
    errors.RequestTooLarge.code: Words(
        "The request's body is larger than MAX_BODY.", "Have the application send less, or raise the setting."
    ),
    errors.InvalidRequest.code: Words(
        "The gateway could not read the request.", "The answer that the client got says what is wrong with it."
    ),
    errors.NotFound.code: Words("The gateway does not know the path.", "Have the application use a path under /v1."),
    errors.DestinationRefused.code: Words(
        "The request was about to leave for another destination than the configured upstream.",
        "Look into the gateway's log: this should not happen.",
    ),
    errors.GatewayError.code: Words(errors.GatewayError.text, "Look for the request's id in the gateway's log."),
}
"""The codes that a request may have (`errors.REQUEST_CODES`)."""

_OF_UPSTREAM: Mapping[int, Words] = {
    429: Words(
        "The upstream answered that there were too many requests or tokens, or that its own quota is used up.",
        "The limit is the provider's, of the project's upstream key: send less, or have the provider raise it.",
    ),
    404: Words(
        "The upstream does not know the path, the model or the object.", "Have the application ask for another one."
    ),
    403: Words("The upstream does not allow this with the project's key.", "See the key's rights at the provider."),
}
_OTHER_ERROR = Words(
    "The upstream answered that the request is wrong.", "The answer that the client got says what is wrong with it."
)
_UPSTREAM_FAILED = Words("The upstream failed.", "Try again; if it stays, see the provider's status.")

_CLIENT_ERROR, _SERVER_ERROR = 400, 500

OF_USAGE: Mapping[str, Words] = {
    Source.OBSERVED: Words("The upstream told it."),
    Source.ESTIMATED: Words(
        "The gateway counted it from what passed by, as the answer was cut or told no usage: it may be somewhat more "
        "or less."
    ),
    Source.UNKNOWN: Words(
        "It is not known: the request failed or generated nothing, the answer told none, or the gateway ended before "
        "it was complete. Nothing is added to the sums of tokens and costs."
    ),
}


def of_end(record: RequestRecord) -> Words | None:
    """Explain why a request was refused, ended or failed; None for one that came to a good end, or is running."""
    if record.code is not None:
        return OF_CODES.get(record.code, Words(f"The gateway ended it with the code {record.code}."))
    if record.status is None or record.status < _CLIENT_ERROR:
        return None
    if record.status >= _SERVER_ERROR:
        return _UPSTREAM_FAILED
    return _OF_UPSTREAM.get(record.status, _OTHER_ERROR)


def of_usage(record: RequestRecord) -> str:
    """Explain how the usage of a request is known."""
    if record.repeats is not None:
        return "Nothing was used: the request did not go to the upstream."
    if record.usage_source is None:
        return "The request is still running: its usage is known when it ends."
    return OF_USAGE[record.usage_source].why
