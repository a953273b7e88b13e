from pathlib import Path

import pytest
from support.gateway.inprocess import assert_json_error, run, running
from support.upstreams.upstreams import RawUpstream, answer_all

pytestmark = pytest.mark.paths("on", "off")


@pytest.mark.parametrize("option", ["close", "Close", "CLOSE", "x, Close", "Keep-Alive,CLOSE"])
def test_nothing_is_read_after_the_last_request(tmp_path: Path, option: str) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                last = proxy.request(headers=f"Connection: {option}\r\n")
                answer = await proxy.ask(last + proxy.request("GET /v1/more", headers=""))
                assert answer.count(b"HTTP/1.1 200 OK") == 1
            assert b"/v1/more" not in upstream.received()

    run(main())


@pytest.mark.parametrize("closes", ["close", "Close"])
def test_no_request_goes_over_a_connection_that_its_upstream_closes(tmp_path: Path, closes: str) -> None:
    answer = f"HTTP/1.1 200 OK\r\nConnection: {closes}\r\nContent-Length: 2\r\n\r\n{{}}".encode()

    async def main() -> None:
        with RawUpstream(answer_all(answer)) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                answers = await proxy.ask(proxy.request(headers="") + proxy.request())
                assert answers.count(b"HTTP/1.1 200 OK") == 2
                assert len(upstream.conversations) == 2

    run(main())


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("\r\nHost", "\nHost"),
        (" HTTP", "\tHTTP"),
        (" HTTP", "  HTTP"),
        ("GET ", " GET "),
        ("GET ", "\nGET "),
        ("\r\n\r\n", "\n\n"),
        ("\r\n\r\n", "\r\nX: a\rb\r\n\r\n"),
        ("\r\n\r\n", "\r\n X: a\r\n\r\n"),
        ("\r\n\r\n", "\r\nX:\x0ba\r\n\r\n"),
        ("Host: proxy", "Host: a b"),
        ("Host: proxy", "Host: a@b"),
    ],
)
def test_rejects_heads_that_other_parsers_read_differently(tmp_path: Path, good: str, bad: str) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                answer = await proxy.ask(proxy.request(headers="").replace(good, bad, 1))
                assert assert_json_error(answer, 400, "invalid_request")["connection"] == "close"
            assert upstream.conversations == []

    run(main())


def test_empty_lines_before_a_request_are_ignored(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                assert b" 200 OK" in await proxy.ask("\r\n" * 100_000 + proxy.request())

    run(main())


def test_an_http_1_0_client_gets_no_100_continue(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                request = proxy.request("POST /v1/x", headers="Expect: 100-continue\r\n", body="abc")
                answer = await proxy.ask(request.replace("HTTP/1.1", "HTTP/1.0", 1))
                assert answer.startswith(b"HTTP/1.1 200 OK")

    run(main())
