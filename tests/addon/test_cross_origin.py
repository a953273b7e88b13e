"""Pages in browsers: what their browsers ask and are told, on each path."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http
from support.clients.http2 import Http2Client
from support.gateway.inprocess import CLOSE, Proxy, head_and_body, run, running, until
from support.gateway.processes import DEADLINE, free_port
from support.gateway.requests import make_request
from support.stores.stores import UNKNOWN_TOKEN, foreign_lock
from support.upstreams.upstreams import OK, RawUpstream, answer_all

from addon import cross_origin
from addon.cross_origin import CrossOrigin, Fields

PAGE = "https://app.example"
LISTED = CrossOrigin(frozenset({PAGE, "http://localhost:3000"}))
ALL = CrossOrigin(frozenset({"*"}))


def told(fields: Fields) -> dict[str, str]:
    """Return headers by their names; of several with one name, all values."""
    headers = http.Headers(fields)
    return {name.lower(): ", ".join(headers.get_all(name)) for name in headers}


def preflight(*headers: tuple[str | bytes, str | bytes], origin: str = PAGE) -> http.Request:
    asked = [("Origin", origin), ("Access-Control-Request-Method", "POST")]
    return make_request(*asked, *headers, path="/v1/chat/completions", method="OPTIONS")


def answered(request: http.Request, policy: CrossOrigin = LISTED) -> dict[str, str]:
    allowing = policy.fields(request)
    return told((*allowing, *cross_origin.preflight_fields(request, allowing)))


@pytest.mark.parametrize("origin", [PAGE, "http://localhost:3000"])
def test_a_page_of_a_listed_origin_may_read_a_response_and_all_of_its_headers(origin: str) -> None:
    assert told(LISTED.fields(make_request(("Origin", origin)))) == {
        "access-control-allow-origin": origin,
        "access-control-expose-headers": "*",
        "vary": "Origin",
    }


@pytest.mark.parametrize(
    "origins",
    [
        [],
        [""],
        ["null"],
        ["*"],
        ["https://app.example.evil"],
        ["https://evil.example"],
        ["http://app.example"],
        ["https://app.example:8443"],
        ["https://app.example/"],
        ["HTTPS://app.example"],
        ["https://app.example, http://localhost:3000"],
        [PAGE, "https://evil.example"],
        [PAGE, PAGE],
        [b"https://app.example\xff"],
    ],
)
def test_no_page_of_another_origin_may_read_a_response(origins: list[str | bytes]) -> None:
    request = make_request(*(("Origin", origin) for origin in origins))
    assert told(LISTED.fields(request)) == {"vary": "Origin"}


@pytest.mark.parametrize("origins", [[], [PAGE], ["null"], [PAGE, PAGE]])
def test_with_an_asterisk_all_pages_may_and_caches_keep_one_response_for_all(origins: list[str]) -> None:
    request = make_request(*(("Origin", origin) for origin in origins))
    assert told(ALL.fields(request)) == {"access-control-allow-origin": "*", "access-control-expose-headers": "*"}


DOCS = "http://127.0.0.1:8081"


@pytest.mark.parametrize("origins", [frozenset[str](), frozenset({PAGE})])
def test_the_documentation_may_read_responses_without_being_listed(origins: frozenset[str]) -> None:
    policy = CrossOrigin(origins, {DOCS})
    assert told(policy.fields(make_request(("Origin", DOCS)))) == {
        "access-control-allow-origin": DOCS,
        "access-control-expose-headers": "*",
        "vary": "Origin",
    }
    assert answered(preflight(origin=DOCS), policy)["access-control-allow-methods"]


@pytest.mark.parametrize("origin", [None, PAGE, "http://127.0.0.1:8082", "https://127.0.0.1:8081", "http://127.0.0.1"])
def test_without_a_list_no_other_response_is_about_pages(origin: str | None) -> None:
    headers = () if origin is None else (("Origin", origin),)
    assert CrossOrigin((), {DOCS}).fields(make_request(*headers)) == ()


@pytest.mark.parametrize("length", [[], [("Content-Length", "0")]])
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2.0"])
def test_a_preflight_is_recognized(length: list[tuple[str, str]], version: str) -> None:
    request = preflight(*length)
    request.http_version = version
    assert cross_origin.is_preflight(request)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", [("Origin", PAGE), ("Access-Control-Request-Method", "POST")]),
        ("options", [("Origin", PAGE), ("Access-Control-Request-Method", "POST")]),
        ("OPTIONS", [("Origin", PAGE)]),
        ("OPTIONS", [("Access-Control-Request-Method", "POST")]),
        ("OPTIONS", [("Origin", PAGE), ("Access-Control-Request-Method", "POST"), ("Content-Length", "5")]),
        ("OPTIONS", [("Origin", PAGE), ("Access-Control-Request-Method", "POST"), ("Content-Length", "x")]),
        ("OPTIONS", [("Origin", PAGE), ("Access-Control-Request-Method", "POST"), ("Transfer-Encoding", "chunked")]),
    ],
)
def test_any_other_request_is_no_preflight(method: str, headers: list[tuple[str, str]]) -> None:
    assert not cross_origin.is_preflight(make_request(*headers, method=method))


def test_a_preflight_is_told_the_methods_of_the_api_and_the_headers_that_it_asks_for() -> None:
    names = "authorization,content-type, x-stainless-retry-count"
    assert answered(preflight(("Access-Control-Request-Headers", names))) == {
        "access-control-allow-origin": PAGE,
        "access-control-expose-headers": "*",
        "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE, HEAD",
        "access-control-allow-headers": names,
        "access-control-max-age": "7200",
        "vary": "Origin, Access-Control-Request-Headers",
    }


@pytest.mark.parametrize("names", ["", " ", ",", "a b", "a,", "a;b", "a:b", "(a)", "a\xe9", b"\xff", "a,\x01", '"a"'])
def test_headers_whose_names_are_none_are_not_allowed(names: str | bytes) -> None:
    request = preflight(("Access-Control-Request-Headers", names))
    found = answered(request)
    assert "access-control-allow-headers" not in found
    assert found["access-control-allow-origin"] == PAGE


def test_a_preflight_from_another_origin_is_allowed_nothing() -> None:
    request = preflight(("Access-Control-Request-Headers", "authorization"), origin="https://evil.example")
    assert answered(request) == {"vary": "Origin"}


def test_with_an_asterisk_a_preflight_is_told_the_headers_by_name_too() -> None:
    """An asterisk would not stand for Authorization."""
    found = answered(preflight(("Access-Control-Request-Headers", "authorization")), ALL)
    assert (found["access-control-allow-origin"], found["access-control-allow-headers"]) == ("*", "authorization")


ASKS = f"Origin: {PAGE}\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n"
ALLOWS = {"access-control-allow-origin": PAGE, "access-control-expose-headers": "*", "vary": "Origin"}
WHOLE = "Content-Length: 2\r\n\r\n{}"
STREAMED = "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
OF_THE_UPSTREAM = "Access-Control-Allow-Origin: *\r\naccess-control-expose-headers: X-Request-ID\r\nVary: Accept\r\n"


def pages(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers that are about pages."""
    return {name: headers[name] for name in headers if name.startswith("access-control-") or name == "vary"}


type Ask = Callable[[Proxy], str]

REQUESTS: dict[int, tuple[Ask, dict[str, Any]]] = {
    200: (lambda proxy: proxy.request("GET /health"), {}),
    400: (lambda proxy: proxy.request("GET /v1//x"), {}),
    401: (lambda proxy: proxy.request().replace(proxy.token.value, UNKNOWN_TOKEN), {}),
    404: (lambda proxy: proxy.request("GET /nowhere"), {}),
    405: (lambda proxy: proxy.request("TRACE /v1/models"), {}),
    413: (lambda proxy: proxy.request("POST /v1/x", body="x" * 11), {"max_body": 10}),
    417: (lambda proxy: proxy.request(headers=f"Expect: nothing\r\n{CLOSE}"), {}),
    503: (lambda proxy: proxy.request(), {}),  # nothing listens there
}


@pytest.mark.paths("on", "off")
@pytest.mark.parametrize("status", REQUESTS)
def test_a_page_may_read_what_the_gateway_answers_itself(tmp_path: Path, status: int) -> None:
    ask, settings = REQUESTS[status]

    async def main() -> None:
        async with running(tmp_path, f"http://127.0.0.1:{free_port()}", cors_origins=PAGE, **settings) as proxy:
            for origin, expected in ((PAGE, ALLOWS), ("https://evil.example", {"vary": "Origin"})):
                text = ask(proxy).replace("Host: proxy\r\n", f"Host: proxy\r\nOrigin: {origin}\r\n")
                answered, headers, _ = head_and_body(await proxy.ask(text))
                assert (answered, pages(headers)) == (status, expected)
            assert "access-control-allow-origin" not in head_and_body(await proxy.ask(ask(proxy)))[1]

    run(main())


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        ("Host: proxy\r\n", "Host: proxy\r\nX: " + "y" * 66_000 + "\r\n", 431),
        ("Host: proxy\r\n", "Host: proxy\r\nHost: proxy\r\n", 400),
        ("HTTP/1.1", "HTTP/2.0", 400),
    ],
)
def test_a_page_may_read_why_its_headers_are_refused(tmp_path: Path, before: str, after: str, status: int) -> None:
    async def main() -> None:
        async with running(tmp_path, "http://127.0.0.1:9", cors_origins=PAGE) as proxy:
            text = proxy.request(headers=f"Origin: {PAGE}\r\n").replace(before, after)
            answered, headers, _ = head_and_body(await proxy.ask(text))
            assert (answered, pages(headers)) == (status, ALLOWS)

    run(main())


@pytest.mark.paths("on", "off")
@pytest.mark.parametrize("origins", [PAGE, "*"])
@pytest.mark.parametrize(
    "framing", ["Content-Length: 2\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"]
)
def test_an_upstreams_response_is_for_the_gateways_pages(tmp_path: Path, origins: str, framing: str) -> None:
    answer = f"HTTP/1.1 200 OK\r\nX-Request-ID: req_1\r\n{OF_THE_UPSTREAM}{framing}".encode()

    async def main() -> None:
        with RawUpstream(answer_all(answer)) as upstream:
            async with running(tmp_path, upstream.url, cors_origins=origins) as proxy:
                got = await proxy.ask(proxy.request(headers=f"Origin: {PAGE}\r\n{CLOSE}"))
                fields = [line.partition(b": ") for line in got.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")]
                found = [(name.decode(), value.decode()) for name, _, value in fields]
        assert ("x-request-id", "req_1") in found
        assert [value for name, value in found if name == "access-control-allow-origin"] == [origins]
        assert [value for name, value in found if name == "access-control-expose-headers"] == ["*"]
        assert [value for name, value in found if name == "vary"] == [
            "accept",
            *(["origin"] if origins == PAGE else []),
        ]
        assert b"\r\nOrigin: " + PAGE.encode() in upstream.received()

    run(main())


@pytest.mark.paths("on", "off")
def test_without_the_setting_nothing_is_said_to_pages_and_no_preflight_is_answered(tmp_path: Path) -> None:
    answer = OK.replace(b"\r\n\r\n", b"\r\n" + OF_THE_UPSTREAM.encode() + b"\r\n")

    async def main() -> None:
        with RawUpstream(answer_all(answer)) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                for line, expected in (("GET /v1/models", 200), ("GET /nowhere", 404), ("OPTIONS /v1/models", 405)):
                    status, headers, _ = head_and_body(await proxy.ask(proxy.request(line, headers=ASKS + CLOSE)))
                    assert status == expected
                    assert pages(headers) == ({"vary": "Accept"} if status == 200 else {})

    run(main())


@pytest.mark.paths("on", "off")
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/unknown?a=b", "/health", "/token", "/nowhere"])
def test_a_preflight_is_answered_without_token_store_and_upstream(tmp_path: Path, path: str) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url, cors_origins=PAGE) as proxy, proxy.connection() as (read, write):
                asked = f"OPTIONS {path} HTTP/1.1\r\nHost: proxy\r\n{ASKS}"
                with foreign_lock(proxy.store):
                    for origin, allowed in ((PAGE, True), ("https://evil.example", False)):  # on one connection
                        write.write(f"{asked}\r\n".replace(PAGE, origin).encode())
                        head = await asyncio.wait_for(read.readuntil(b"\r\n\r\n"), DEADLINE)
                        status, headers, _ = head_and_body(head)
                        assert status == 204
                        assert headers["x-llm-proxy-request-id"]
                        assert not {"content-length", "transfer-encoding", "content-type"} & headers.keys()
                        assert headers.get("access-control-allow-origin") == (PAGE if allowed else None)
                        assert headers.get("access-control-allow-headers") == ("authorization" if allowed else None)
                write.write(proxy.request("GET /v1/models", headers=CLOSE).encode())
                assert head_and_body(await asyncio.wait_for(read.read(), DEADLINE))[0] == 200
                assert proxy.served in {0, 3}
        assert len(upstream.conversations) == 1
        assert b"OPTIONS" not in upstream.received()

    run(main())


@pytest.mark.paths("on", "off")
@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        ("OPTIONS *", ASKS, 400),
        ("OPTIONS /v1//x", ASKS, 400),
        ("OPTIONS /v1/x", ASKS + "Expect: nothing\r\n", 417),
        ("OPTIONS /v1/x", f"Origin: {PAGE}\r\n", 405),
        ("OPTIONS /v1/x", ASKS + "Content-Length: 3\r\n", 405),
        ("OPTIONS /v1/x", ASKS + "Transfer-Encoding: chunked\r\n", 405),
    ],
)
def test_what_is_no_preflight_is_refused_as_ever(tmp_path: Path, line: str, headers: str, status: int) -> None:
    async def main() -> None:
        async with running(tmp_path, "http://127.0.0.1:9", cors_origins=PAGE) as proxy:
            # Without the body that some of them announce: a refusal does not wait for it.
            answered, told, _ = head_and_body(await proxy.ask_and_stay(proxy.request(line, headers=headers)))
            assert (answered, pages(told)) == (status, ALLOWS)

    run(main())


def test_over_http2_pages_are_told_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with (
                running(tmp_path, upstream.url, cors_origins=PAGE) as proxy,
                Http2Client.connect(proxy.port) as client,
            ):
                origin, asked = ("origin", PAGE), ("access-control-request-method", "POST")
                for path, token, expected in (
                    ("/v1/models", proxy.token.value, 200),
                    ("/v1/models", UNKNOWN_TOKEN, 401),
                    ("/nowhere", proxy.token.value, 404),
                    (f"/v1/{'y' * 66_000}", proxy.token.value, 431),
                ):
                    stream = client.begin("GET", path, token, origin, end_stream=True)
                    assert await client.status(stream) == expected
                    assert pages(await client.answer(stream) or {}) == ALLOWS
                stream = client.begin("OPTIONS", "/v1/models", UNKNOWN_TOKEN, origin, asked, end_stream=True)
                assert await client.status(stream) == 204
                answer = await client.answer(stream) or {}
                assert (answer["access-control-allow-origin"], answer["access-control-max-age"]) == (PAGE, "7200")
                assert "content-length" not in answer

    run(main())


def test_the_body_of_what_seemed_a_preflight_is_dropped(tmp_path: Path) -> None:
    """Over HTTP/2 no header announces it, and it would be kept for no client."""

    async def main() -> None:
        async with (
            running(tmp_path, "http://127.0.0.1:9", cors_origins=PAGE) as proxy,
            Http2Client.connect(proxy.port) as client,
        ):
            asked = [("origin", PAGE), ("access-control-request-method", "POST")]
            pseudo = [(":method", "OPTIONS"), (":scheme", "https"), (":authority", "proxy"), (":path", "/v1/x")]
            stream = client.open([*pseudo, *asked], end_stream=False)
            for _ in range(10):
                client.send(stream, bytes(1000))
            client.ping()
            await until(lambda: proxy.flows)
            assert await client.status(client.get("/health", UNKNOWN_TOKEN)) == 200  # by now the pieces have come
            assert len(proxy.layer.streams[1].request_body_buf) == 0
            client.send(stream, b"", end_stream=True)
            assert await client.status(stream) == 204
            assert not proxy.flows[0].request.raw_content

    run(main())
