"""An upstream that knows the usage of each of its responses, to compare the ledger with.

A request chooses its response in the header `X-Case`: `<kind> <number>`. The usage, reported or not, is kept under the
id that the upstream sends as `X-Request-ID`.
"""

import gzip
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from support.upstreams.upstreams import Conversation, RawUpstream

MODEL = "gpt-4o-2024-08-06"
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "runs", "back", "home"]
"""Each of them, with a blank before it, is one token of the model's own tokenizer."""
INPUT_TOKENS = 124
_DONE = "[DONE]"
# The example of OpenAI's cookbook ("How to count tokens with tiktoken"), with the API's own count for this model.
MESSAGES = [
    {
        "role": "system",
        "content": "You are a helpful, pattern-following assistant that translates corporate jargon"
        " into plain English.",
    },
    {
        "role": "system",
        "name": "example_user",
        "content": "New synergies will help drive top-line growth.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Things working well together will increase revenue.",
    },
    {
        "role": "system",
        "name": "example_user",
        "content": "Let's circle back when we have more bandwidth to touch base on opportunities"
        " for increased leverage.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Let's talk later when we're less busy about how to do better.",
    },
    {
        "role": "user",
        "content": "This late pivot means we don't have time to boil the ocean for the client deliverable.",
    },
]

type Kind = Literal[
    "chat", "chat-stream", "chat-silent", "chat-cut", "responses", "responses-stream", "embeddings", "error", "models",
    "reset",
]  # fmt: skip
PATHS: Mapping[Kind, str] = {
    "chat": "/v1/chat/completions",
    "chat-stream": "/v1/chat/completions",
    "chat-silent": "/v1/chat/completions",
    "chat-cut": "/v1/chat/completions",
    "responses": "/v1/responses",
    "responses-stream": "/v1/responses",
    "embeddings": "/v1/embeddings",
    "error": "/v1/chat/completions",
    "models": "/v1/models",
    "reset": "/v1/chat/completions",
}


@dataclass
class Answered:
    """The usage of one response. Tokens that it did not report are those that were sent."""

    kind: Kind
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None


class MeteredUpstream(RawUpstream):
    """Answers each request with the kind of response that it asks for, and records the usages."""

    def __init__(self) -> None:
        super().__init__(self._serve_all)
        self.answered: dict[str, Answered] = {}

    def _serve_all(self, conversation: Conversation) -> None:
        while True:
            head, _ = conversation.read_message()
            kind, number = head.lower().split(b"x-case: ")[1].split(b"\r\n")[0].decode().split()
            self._answer(conversation, kind, int(number))  # type: ignore[arg-type]

    def _answer(self, conversation: Conversation, kind: Kind, number: int) -> None:
        request_id = str(uuid.uuid4())
        answered = self.answered[request_id] = Answered(kind)
        send = _Sender(conversation, request_id)
        match kind:
            case "chat":
                send.json({"object": "chat.completion", "model": MODEL, "usage": _chat_usage(answered, number)})
            case "chat-stream":
                send.events(*_chunks(number), {"choices": [], "usage": _chat_usage(answered, number)}, _DONE)
                send.end()
            case "chat-silent":
                answered.input_tokens, answered.output_tokens = INPUT_TOKENS, number
                send.events(*_chunks(number), _DONE)
                send.end()
            case "chat-cut":
                answered.input_tokens, answered.output_tokens = INPUT_TOKENS, number
                send.events(*_chunks(number))
                conversation.wait_until_closed()
                raise ConnectionError
            case "responses":
                send.json({"object": "response", "model": MODEL, "usage": _responses_usage(answered, number)})
            case "responses-stream":
                send.events(*_response_events(number, _responses_usage(answered, number)))
                send.end()
            case "embeddings":
                answered.input_tokens = number
                send.json(_embeddings(number), zip_it=True)
            case _:
                self._answer_without_usage(conversation, kind, send)

    @staticmethod
    def _answer_without_usage(conversation: Conversation, kind: Kind, send: "_Sender") -> None:
        match kind:
            case "error":
                send.json({"error": {"message": "Rate limit reached", "code": "rate_limit"}}, status="429 Too Many")
            case "models":
                send.json({"object": "list", "data": []})
            case _:
                conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
                raise ConnectionError


class _Sender:
    def __init__(self, conversation: Conversation, request_id: str) -> None:
        self._conversation = conversation
        self._request_id = request_id

    def json(self, body: object, *, status: str = "200 OK", zip_it: bool = False) -> None:
        content = gzip.compress(json.dumps(body).encode()) if zip_it else json.dumps(body).encode()
        coding = "Content-Encoding: gzip\r\n" if zip_it else ""
        head = _head(status, self._request_id, "application/json", f"{coding}Content-Length: {len(content)}\r\n")
        self._conversation.send(head + content)

    def events(self, *events: Mapping[str, Any] | str) -> None:
        head = _head("200 OK", self._request_id, "text/event-stream", "Transfer-Encoding: chunked\r\n")
        self._conversation.send(head)
        for event in events:
            data = event if isinstance(event, str) else json.dumps(event)
            chunk = f"data: {data}\n\n".encode()
            self._conversation.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))

    def end(self) -> None:
        self._conversation.send(b"0\r\n\r\n")


def body_of(kind: Kind) -> dict[str, Any] | None:
    """Return the body that a client sends for a kind of response, None for a GET."""
    match kind:
        case "models":
            return None
        case "responses" | "responses-stream":
            return {"model": "gpt-4o", "input": "Hello!", "stream": kind == "responses-stream"}
        case "embeddings":
            return {"model": "text-embedding-3-small", "input": "Hello!"}
        case _:
            return {"model": "gpt-4o", "messages": MESSAGES, "stream": kind.startswith("chat-")}


def _head(status: str, request_id: str, kind: str, more: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nX-Request-ID: {request_id}\r\nContent-Type: {kind}\r\n{more}\r\n".encode()


def _words(number: int) -> list[str]:
    return [" " + WORDS[index % len(WORDS)] for index in range(number)]


def _chunks(number: int) -> list[dict[str, Any]]:
    head = {"object": "chat.completion.chunk", "model": MODEL}
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        *({"content": word} for word in _words(number)),
    ]
    return [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]


def _response_events(number: int, usage: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "response.created", "response": {"model": MODEL, "usage": None}},
        *({"type": "response.output_text.delta", "delta": word} for word in _words(number)),
        {"type": "response.completed", "response": {"model": MODEL, "usage": usage}},
    ]


def _embeddings(number: int) -> dict[str, Any]:
    data = [{"object": "embedding", "index": 0, "embedding": [0.25] * 256}]
    usage = {"prompt_tokens": number, "total_tokens": number}
    return {"object": "list", "data": data, "model": "text-embedding-3-small", "usage": usage}


def _chat_usage(answered: Answered, number: int) -> dict[str, Any]:
    _set(answered, number)
    return {
        "prompt_tokens": answered.input_tokens,
        "completion_tokens": answered.output_tokens,
        "total_tokens": 11 * number,
        "prompt_tokens_details": {"cached_tokens": answered.cached_input_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": answered.reasoning_tokens, "audio_tokens": 0},
    }


def _responses_usage(answered: Answered, number: int) -> dict[str, Any]:
    _set(answered, number)
    return {
        "input_tokens": answered.input_tokens,
        "input_tokens_details": {"cached_tokens": answered.cached_input_tokens},
        "output_tokens": answered.output_tokens,
        "output_tokens_details": {"reasoning_tokens": answered.reasoning_tokens},
        "total_tokens": 11 * number,
    }


def _set(answered: Answered, number: int) -> None:
    answered.input_tokens, answered.cached_input_tokens = 10 * number, 3 * number
    answered.output_tokens, answered.reasoning_tokens = number, number // 2
