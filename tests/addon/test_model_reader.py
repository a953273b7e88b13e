import asyncio
import gzip
import json
import threading
from collections.abc import Iterable

import pytest
from mitmproxy import http
from support.gateway.requests import make_request

from addon.exchange import Exchange
from addon.model_reader import ModelReader
from addon.reading import requests
from addon.reading.head import Head
from addon.reading_threads import AT_ONCE
from addon.spool import BodyMissing, Spool
from store.errors import RequestTooLarge
from store.request import NOTHING, Reading

MIB = 1024 * 1024
JSON = ("Content-Type", "application/json")
SHORT = b'{"model": "gpt-4o"}'
FOUND = Reading(("gpt-4o",))


def padded(size: int) -> bytes:
    """Return a body of a size that names a model."""
    body = json.dumps({"model": "gpt-4o", "input": ""}).encode()
    return body[:-2] + b"a" * (size - len(body)) + body[-2:]


def asked(content: bytes | None, *headers: tuple[str, str], method: str = "POST") -> http.Request:
    request = make_request(JSON, *headers, path="/v1/responses", method=method)
    request.raw_content = content
    return request


def spooled(content: bytes) -> Exchange:
    spool = Spool(MIB)
    spool.write(content)
    return Exchange(spool=spool)


def read(request: http.Request, exchange: Exchange) -> Reading:
    return asyncio.run(ModelReader(request, exchange, MIB).read())


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that have read a body, in order."""
    names: list[str] = []

    def of_body(head: Head, pieces: Iterable[bytes], most: int, *, with_demand: bool) -> Reading:
        names.append(threading.current_thread().name.partition("_")[0])
        return whole(head, pieces, most, with_demand=with_demand)

    whole = requests.of_body
    monkeypatch.setattr(requests, "of_body", of_body)
    return names


@pytest.mark.parametrize(
    ("request_", "exchange", "thread"),
    [
        (asked(SHORT), Exchange(), "MainThread"),
        (asked(padded(AT_ONCE)), Exchange(), "MainThread"),
        (asked(padded(AT_ONCE + 1)), Exchange(), "reading"),
        (asked(gzip.compress(SHORT), ("Content-Encoding", "gzip")), Exchange(), "reading"),
        (asked(gzip.compress(SHORT), ("Content_Encoding", "gzip")), Exchange(), "reading"),
        (asked(None), spooled(SHORT), "reading"),
    ],
)
def test_only_a_short_body_is_read_on_the_event_loop(
    request_: http.Request, exchange: Exchange, thread: str, threads: list[str]
) -> None:
    assert read(request_, exchange) == FOUND
    assert threads == [thread]
    exchange.close_spool()


def test_other_requests_go_on_while_a_body_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()

    def of_body(*_: object, with_demand: bool) -> Reading:
        assert not with_demand
        assert goes_on.wait(10)
        return FOUND

    monkeypatch.setattr(requests, "of_body", of_body)

    async def both() -> Reading:
        reading = asyncio.create_task(ModelReader(asked(padded(MIB)), Exchange(), MIB).read())
        asyncio.get_running_loop().call_soon(goes_on.set)
        return await reading

    assert asyncio.run(both()) == FOUND


def test_a_body_that_is_not_needed_is_not_read(threads: list[str]) -> None:
    assert read(asked(None, method="GET"), Exchange()) == NOTHING
    assert not threads


def test_a_body_is_read_only_once_it_has_come() -> None:
    request = asked(SHORT)
    request.timestamp_end = None
    reader = ModelReader(request, Exchange(), MIB)
    assert not reader.is_ready
    with pytest.raises(BodyMissing):
        asyncio.run(reader.read())


def test_a_body_that_decodes_to_too_much_is_refused_by_its_setting() -> None:
    request = asked(gzip.compress(padded(MIB + 1)), ("Content-Encoding", "gzip"))
    with pytest.raises(RequestTooLarge, match="MAX_SPOOL"):
        read(request, Exchange())


def test_the_demand_of_a_body_is_read_where_it_is_wanted() -> None:
    request = asked(SHORT)
    assert asyncio.run(ModelReader(request, Exchange(), MIB).read()).demand is None
    demand = asyncio.run(ModelReader(request, Exchange(), MIB).read(with_demand=True)).demand
    assert demand is not None
    assert demand.input_tokens > 0
