import pytest
from support.stores.ledger import refuse_request, settle_request

from manage_api.pages import explanations
from store import errors
from store.errors import REQUEST_CODES
from store.ledger.usage import Source
from store.reports.request_list import RequestList, RequestRecord
from store.store import Store


def test_each_code_of_a_request_is_explained_and_no_other() -> None:
    assert explanations.OF_CODES.keys() == {*REQUEST_CODES}
    for code, words in explanations.OF_CODES.items():
        assert words.why.endswith("."), code
        assert words.advice.endswith("."), code


def test_each_source_of_usage_is_explained() -> None:
    assert explanations.OF_USAGE.keys() == {*Source}


def settled(store: Store, **columns: object) -> RequestRecord:
    return RequestList(store).get(settle_request(store, **columns)["id"])


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, "The upstream answered that the request is wrong."),
        (403, "The upstream does not allow this with the project's key."),
        (404, "The upstream does not know the path, the model or the object."),
        (429, "The upstream answered that there were too many requests"),
        (500, "The upstream failed."),
        (503, "The upstream failed."),
    ],
)
def test_an_error_of_the_upstream_is_told_from_one_of_the_gateway(store: Store, status: int, text: str) -> None:
    words = explanations.of_end(settled(store, status=status))
    assert words is not None
    assert words.why.startswith(text)
    ended = explanations.of_end(settled(store, status=status, code=errors.UpstreamTimeout.code))
    assert ended == explanations.OF_CODES[errors.UpstreamTimeout.code]


@pytest.mark.parametrize("status", [200, 101, 302, None])
def test_a_good_end_needs_no_words(store: Store, status: int | None) -> None:
    assert explanations.of_end(settled(store, status=status)) is None


def test_a_code_of_a_newer_version_is_named(store: Store) -> None:
    words = explanations.of_end(settled(store, code="new_code"))
    assert words is not None
    assert "new_code" in words.why


def test_a_refused_request_used_nothing(store: Store) -> None:
    refused = RequestList(store).get(refuse_request(store)["id"])
    assert explanations.of_usage(refused).startswith("Nothing was used")
