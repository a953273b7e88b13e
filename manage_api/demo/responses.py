"""`POST /v1/responses`, whole or streamed as typed events. Responses are not stored."""

import json
import secrets
import time
from collections.abc import AsyncGenerator
from itertools import count
from typing import Any

from manage_api.demo.handler import ApiHandler
from manage_api.demo.text import Message, Reply, read_messages, reply_to
from manage_api.demo.tokens import responses_usage


class Responses(ApiHandler):
    """Responses."""

    async def post(self) -> None:
        """Answer the last user message of the input."""
        body = self.json_body()
        response = _in_progress(self.required(body, "model", str), body)
        reply = reply_to(self._messages(body), self.wanted_words)
        if body.get("stream"):
            await self.stream(_numbered(self._events(response, reply)))
        else:
            await self.pause()
            self.write(_completed(response, _message(reply.text), reply))

    def _messages(self, body: dict[str, Any]) -> list[Message]:
        """Read the instructions and the input: a user's text, or a list of items."""
        instructions = body.get("instructions")
        system = [Message("system", instructions)] if isinstance(instructions, str) else []
        given = self.required(body, "input", (str, list))
        return system + ([Message("user", given)] if isinstance(given, str) else read_messages(given, "input"))

    async def _events(self, response: dict[str, Any], reply: Reply) -> AsyncGenerator[dict[str, Any]]:
        """Make the events of a response with one message of one part."""
        message = _message("")
        empty = {**message, "status": "in_progress", "content": []}
        item = {"output_index": 0}
        part = {**item, "item_id": message["id"], "content_index": 0}
        yield {"type": "response.created", "response": response}
        yield {"type": "response.in_progress", "response": response}
        yield {"type": "response.output_item.added", **item, "item": empty}
        yield {"type": "response.content_part.added", **part, "part": _part("")}
        async for word in self.paced(reply.words):
            yield {"type": "response.output_text.delta", **part, "delta": word, "logprobs": []}
        message["content"] = [_part(reply.text)]
        yield {"type": "response.output_text.done", **part, "text": reply.text, "logprobs": []}
        yield {"type": "response.content_part.done", **part, "part": _part(reply.text)}
        yield {"type": "response.output_item.done", **item, "item": message}
        yield {"type": "response.completed", "response": _completed(response, message, reply)}


async def _numbered(events: AsyncGenerator[dict[str, Any]]) -> AsyncGenerator[str]:
    """Write `events` as numbered server-sent events."""
    numbers = count()
    async for event in events:
        yield f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': next(numbers)})}\n\n"


def _in_progress(model: str, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"resp_{secrets.token_hex(24)}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": body.get("metadata") or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
    }


def _completed(response: dict[str, Any], message: dict[str, Any], reply: Reply) -> dict[str, Any]:
    usage = responses_usage(reply.input_tokens, reply.output_tokens)
    return {**response, "status": "completed", "output": [message], "usage": usage}


def _message(text: str) -> dict[str, Any]:
    message_id = f"msg_{secrets.token_hex(24)}"
    return {
        "id": message_id,
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [_part(text)],
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
