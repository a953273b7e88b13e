import pytest

from addon import failures
from addon.exchange import Exchange
from addon.failures import Failure
from store.errors import InvalidToken


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure.MALFORMED, "invalid_request"),
        (Failure.TOO_LARGE, "request_too_large"),
        (Failure.NO_RESPONSE, "service_unavailable"),
        (Failure.CUT, None),
    ],
)
def test_each_failure_has_an_error_unless_no_answer_is_possible(failure: Failure, code: str | None) -> None:
    error = failures.error_for(Exchange(), failure)
    assert (error.code if error else None) == code


@pytest.mark.parametrize("failure", Failure)
def test_a_refusal_is_the_error_of_every_later_failure(failure: Failure) -> None:
    exchange, refusal = Exchange(), InvalidToken()
    exchange.refuse(refusal)
    assert failures.error_for(exchange, failure) is refusal


@pytest.mark.parametrize(("is_upstream", "code"), [(False, "request_timeout"), (True, "upstream_timeout")])
def test_a_body_that_does_not_go_on_is_the_fault_of_its_sender(is_upstream: bool, code: str) -> None:
    assert failures.idle_error(is_upstream=is_upstream).code == code
