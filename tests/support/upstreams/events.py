"""Event streams as upstreams send them."""

import json
from typing import Any


def sse(*events: object, end: str = "\n") -> bytes:
    """Write events as a stream: an object as JSON, a text as it is."""
    texts = (event if isinstance(event, str) else json.dumps(event, ensure_ascii=False) for event in events)
    return "".join(f"data: {text}{end}{end}" for text in texts).encode()


def chunk(content: str | None = None, *, index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a chunk of a chat completion's stream; `more` goes beside its choices."""
    delta = {} if content is None else {"content": content}
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "gpt-4o-2024-08-06",
        "choices": [choice],
        **more,
    }


def chat(*contents: str, usage: object = None) -> bytes:
    """Return the whole stream of a chat completion; with `usage`, its last chunk has one."""
    last = [] if usage is None else [{**chunk(), "choices": [], "usage": usage}]
    return sse(*[chunk(content, usage=None) for content in contents], chunk(finish="stop"), *last, "[DONE]")


def response(kind: str, **more: Any) -> dict[str, Any]:
    """Return an event of a response's stream that has the response in it."""
    return {
        "type": f"response.{kind}",
        "response": {"id": "resp_1", "model": "gpt-4.1-2025-04-14", "usage": None, **more},
    }


def delta(text: str, kind: str = "output_text", **more: Any) -> dict[str, Any]:
    """Return an event of a response's stream that continues a text."""
    return {"type": f"response.{kind}.delta", "output_index": 0, "content_index": 0, "delta": text, **more}
