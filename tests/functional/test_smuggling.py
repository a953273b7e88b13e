"""A sample of the cases of request smuggling, of each kind; `./run.sh soak tests/soak/test_smuggling.py` runs all."""

import itertools
from collections.abc import Iterator

import pytest
from support.attacks import smuggling
from support.attacks.desync import all_cases
from support.attacks.desync_http2 import http2_cases
from support.attacks.smuggling import Target, check_case, check_http2_case

EVERY = 24
CASES = {f"{case.kind}: {case.name}": case for case in itertools.islice(all_cases(), 0, None, EVERY)}
HTTP2_CASES = {case.name: case for case in itertools.islice(http2_cases(), 0, None, EVERY)}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, path: str) -> Iterator[Target]:
    with smuggling.target(tmp_path_factory.mktemp("smuggling"), path) as target:
        yield target


@pytest.mark.parametrize("name", CASES)
def test_no_http1_request_is_smuggled(target: Target, name: str) -> None:
    check_case(target, CASES[name])


@pytest.mark.parametrize("name", HTTP2_CASES)
def test_no_http2_request_is_smuggled(target: Target, name: str) -> None:
    check_http2_case(target, HTTP2_CASES[name])
