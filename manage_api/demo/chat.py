"""`/v1/chat/completions`, whole or streamed."""

import json
import secrets
import time
from collections.abc import AsyncGenerator
from typing import Any

from manage_api.demo.handler import ApiHandler
from manage_api.demo.text import Reply, read_messages, reply_to
from manage_api.demo.tokens import chat_usage


class ChatCompletions(ApiHandler):
    """Chat completions."""

    async def post(self) -> None:
        """Answer the last user message."""
        body = self.json_body()
        model = self.required(body, "model", str)
        messages = read_messages(self.required(body, "messages", list), "messages")
        reply = reply_to(messages, self.wanted_words)
        if body.get("stream"):
            options = body.get("stream_options")
            with_usage = isinstance(options, dict) and bool(options.get("include_usage"))
            await self.stream(self._events(_head(model, "chat.completion.chunk"), reply, with_usage))
        else:
            await self.pause()
            self.write(_completion(_head(model, "chat.completion"), reply))

    async def _events(self, head: dict[str, Any], reply: Reply, with_usage: bool) -> AsyncGenerator[str]:
        """Make the chunks. `with_usage` adds a `usage` to each, null in all but the last."""
        if with_usage:
            head = {**head, "usage": None}
        yield _event({**head, "choices": [_choice({"role": "assistant", "content": "", "refusal": None})]})
        async for word in self.paced(reply.words):
            yield _event({**head, "choices": [_choice({"content": word})]})
        yield _event({**head, "choices": [_choice({}, "stop")]})
        if with_usage:
            yield _event({**head, "choices": [], "usage": _usage(reply)})
        yield "data: [DONE]\n\n"


def _head(model: str, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "service_tier": "default",
        "system_fingerprint": "fp_demo",
    }


def _completion(head: dict[str, Any], reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {**head, "choices": [choice], "usage": _usage(reply)}


def _choice(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _usage(reply: Reply) -> dict[str, Any]:
    return chat_usage(reply.input_tokens, reply.output_tokens)


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk)}\n\n"
