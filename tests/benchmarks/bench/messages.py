"""The requests of the load generator, and the responses of the upstream."""

import json
from typing import Any

MODEL = "gpt-4o-mini-2024-07-18"
EVENTS_HEADER = "X-Events"
"""Asks the upstream for a stream: its number of events, and the milliseconds between them."""

_QUESTION: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}
_STREAMED = {**_QUESTION, "stream": True, "stream_options": {"include_usage": True}}
_USAGE = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
_COMPLETION = json.dumps(
    {
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "object": "chat.completion",
        "created": 1741569952,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello! How can I assist you today?", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
        "service_tier": "default",
    }
).encode()
_CHUNK = {
    "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
    "object": "chat.completion.chunk",
    "created": 1741569952,
    "model": MODEL,
}

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_COMPLETION),
    _COMPLETION,
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def request(token: str, *, events: int = 0, pause_ms: int = 0) -> bytes:
    """Return a whole request for a chat completion: one that is streamed where it asks for events."""
    body = json.dumps(_STREAMED if events else _QUESTION).encode()
    asks = f"{EVENTS_HEADER}: {events} {pause_ms}\r\n" if events else ""
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\n{asks}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def event(sent: int) -> bytes:
    """Return a chunk with an event that holds its time of sending, in nanoseconds of the monotonic clock."""
    choices = [{"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}]
    return _chunk(_event({**_CHUNK, "choices": choices, "sent": sent}))


def end_of_stream() -> bytes:
    """Return the end of a stream: the usage, OpenAI's mark of the end, and HTTP's."""
    return _chunk(_event({**_CHUNK, "choices": [], "usage": _USAGE}) + b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _event(data: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(data).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
