"""An event stream of 50 MB is metered in constant memory, with its usage at the end and without.

`./run.sh soak -s tests/soak/test_metered_stream.py` prints the peaks.
"""

import json
from pathlib import Path

import httpx
import pytest
from support.gateway.gateway import Gateway, bearer
from support.gateway.processes import wait_until
from support.load.mixed_load import rows_of
from support.upstreams.metered_upstream import MESSAGES, MODEL
from support.upstreams.upstreams import Conversation, RawUpstream

pytestmark = pytest.mark.soak("addon/layers", "addon/metering")

SIZE = 50_000_000
CHUNK = {"object": "chat.completion.chunk", "model": MODEL, "choices": [{"index": 0, "delta": {"content": " word"}}]}
USAGE = {"prompt_tokens": 12, "completion_tokens": 345, "total_tokens": 357}
MAX_GROWTH = 20_000_000


@pytest.mark.parametrize("usage", [USAGE, None], ids=["with usage", "without"])
def test_a_stream_of_50_mb_is_metered_in_constant_memory(tmp_path: Path, usage: dict[str, int] | None) -> None:
    event = f"data: {json.dumps(CHUNK)}\n\n".encode()
    number = SIZE // len(event)
    end = b"" if usage is None else f"data: {json.dumps({**CHUNK, 'choices': [], 'usage': usage})}\n\n".encode()

    def answer(conversation: Conversation) -> None:
        conversation.read_message()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for _ in range(number // 100):
            conversation.send(event * 100)
        conversation.send(end + b"data: [DONE]\n\n")

    with RawUpstream(answer) as upstream, Gateway.start(tmp_path, upstream.url, LOG_LEVEL="warning") as gateway:
        token, pid = gateway.make_token(), gateway.proxies[0].process.pid
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        before = peak(pid)
        with httpx.stream(
            "POST",
            f"{gateway.url}/v1/chat/completions",
            json={"model": "gpt-4o", "messages": MESSAGES, "stream": True},
            headers=bearer(token),
            timeout=120,
        ) as response:
            size = sum(len(piece) for piece in response.iter_raw())
        wait_until(lambda: all(row["usage_source"] for row in rows_of(gateway)))
        (row,) = rows_of(gateway)
        growth = peak(pid) - before
        usage_text = f"{row['usage_source']} {row['output_tokens']} tokens"
        print(f"\n{size} bytes, {usage_text}; RSS {before} bytes, at most {growth} more")
        assert row["response_bytes"] == size
        expected = ("observed", 345) if usage else ("estimated", number // 100 * 100)
        assert (row["usage_source"], row["output_tokens"]) == expected
        assert growth < MAX_GROWTH


def peak(pid: int) -> int:
    """Return the most memory that a process has had at once, in bytes."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
