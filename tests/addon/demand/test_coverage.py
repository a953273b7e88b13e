"""The promise of the estimates, over made-up requests and those of the corpus: enough, and at most twice as much."""

import functools
import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

import pytest
from support.corpus import CASES, Case
from support.demand.requests import Made, made

from addon.demand import of_body
from addon.metering.estimates import counting
from addon.protocol.endpoints import endpoint_of
from store.request import Demand

_COUNT = 2000


@functools.cache
def requests() -> Sequence[tuple[Made, Demand]]:
    return [(one, of_body(one.endpoint, one.body)) for one in made(25, _COUNT)]


def ratios(by: str) -> Mapping[str, list[float]]:
    found = defaultdict(list)
    for one, demand in requests():
        found[getattr(one, by)].append(demand.input_tokens / one.needed)
    return found


def test_at_most_one_of_a_thousand_needs_more_than_is_reserved() -> None:
    short = [(one.endpoint, one.kind) for one, demand in requests() if demand.input_tokens < one.needed]
    assert len(requests()) == _COUNT
    assert len(short) <= _COUNT / 1000, short


def test_the_median_reserves_at_most_twice_what_is_needed() -> None:
    assert statistics.median(demand.input_tokens / one.needed for one, demand in requests()) <= 2


@pytest.mark.parametrize("by", ["endpoint", "kind"])
def test_no_endpoint_and_no_kind_of_content_reserves_more_in_the_median(by: str) -> None:
    medians = {name: statistics.median(values) for name, values in ratios(by).items()}
    assert len(medians) >= 7
    assert {name: median for name, median in medians.items() if median > 2} == {}


def test_nothing_reserves_much_more_but_what_is_tiny() -> None:
    most = max(demand.input_tokens / one.needed for one, demand in requests() if one.needed >= 100)
    assert most < 10  # Hindi for a Llama, whose tokenizer needs more than the one that is compared with


_JSON = [case for case in CASES if case.request.content_type == "application/json"]


@pytest.mark.parametrize("case", _JSON, ids=lambda case: case.name)
def test_the_texts_of_the_corpus_are_covered(case: Case) -> None:
    """The corpus has the usages of providers' pages, beside stand-ins for the requests: so their texts are counted."""
    body = json.loads(case.request.content)
    demand = of_body(endpoint_of(case.path), body)
    if case.path.endswith("/count_tokens"):
        assert demand == Demand()
        return
    texts = [one for one in strings(body) if one not in {body.get("model"), "user"}]
    assert demand.input_tokens >= sum(map(counting.counter("o200k_base"), texts))
    assert demand.input_tokens < 2000


def strings(value: object) -> list[str]:
    match value:
        case str():
            return [value]
        case list():
            return [text for item in value for text in strings(item)]
        case dict():
            return [
                text
                for name, item in value.items()
                if name not in {"type", "voice", "stream_format"}
                for text in strings(item)
            ]
    return []
