from pathlib import Path
from typing import Any

import pytest
from support.gateway.inprocess import head_and_body, read_answer, run, running
from support.upstreams.upstreams import RawUpstream, answer_all

OPTIONS: list[dict[str, Any]] = [
    {"body_size_limit": "1m"},
    {"stream_large_bodies": "1m"},
    {"store_streamed_bodies": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: next(iter(options)))
def test_an_option_that_only_the_layers_know_leaves_all_to_them(tmp_path: Path, options: dict[str, Any]) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url, options) as proxy:
                assert head_and_body(await proxy.ask(proxy.request()))[0] == 200
                assert proxy.served == 0

    run(main())


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: next(iter(options)))
def test_such_an_option_holds_for_open_connections_too(tmp_path: Path, options: dict[str, Any]) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                for _ in range(2):
                    writer.write(proxy.request(headers="").encode())
                    assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
                    proxy.master.options.update(**options)
                assert (proxy.served, len(proxy.flows)) == (1, 2)

    run(main())


def test_a_body_above_the_limit_of_mitmproxy_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url, {"body_size_limit": "10"}) as proxy:
                status, *_ = head_and_body(await proxy.ask(proxy.request("POST /v1/x", body="x" * 11)))
                assert status >= 400
            assert b"POST" not in upstream.received()

    run(main())


@pytest.mark.parametrize(("plain_path", "served"), [("on", 1), ("off", 0)])
def test_the_setting_decides(tmp_path: Path, plain_path: str, served: int) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url, plain_path=plain_path) as proxy:
                assert head_and_body(await proxy.ask(proxy.request()))[0] == 200
                assert proxy.served == served

    run(main())
