import asyncio
import threading
from pathlib import Path

import pytest
from support.http2 import Http2Client
from support.inprocess import run, running
from support.processes import DEADLINE
from support.upstreams import OK, Conversation, RawUpstream


@pytest.mark.parametrize(
    ("path", "header", "status"),
    [("/v1/x", ("x", "y" * 100_000), 431), (f"/v1/{'y' * 100_000}", ("x", "y"), 431), ("/v1/x", ("n(me", "y"), 400)],
    ids=["a large header", "a large path", "a malformed header"],
)
def test_a_request_that_is_refused_harms_no_other(
    tmp_path: Path, path: str, header: tuple[str, str], status: int
) -> None:
    go_on = threading.Event()

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        go_on.wait(DEADLINE)
        conversation.send(OK)

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy, Http2Client.connect(proxy.port) as client:
                good = client.get("/v1/good", proxy.token.value)
                while not upstream.conversations:
                    await asyncio.sleep(0)
                refused = client.begin("GET", path, proxy.token.value, header, end_stream=True)
                assert await client.status(refused) == status
                go_on.set()
                assert await client.status(good) == 200
                assert len(proxy.exchanges) == 0

    run(main())
