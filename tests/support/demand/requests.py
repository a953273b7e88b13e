"""Requests made up from a seed, each with the input tokens that it needs, to hold the estimates against.

Texts are counted by the tokenizer of their model where that is OpenAI's, else by o200k; Claude's newest need up to
1.35 times as many. Messages and tools count as in OpenAI's cookbook, images as the providers' pages say.
"""

import base64
import json
import math
import random
import string
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from addon.metering.estimates import counting
from support.demand.paragraphs import PARAGRAPHS

_SAMPLES = json.loads(Path(__file__).with_name("samples.json").read_text())
"""Code and pages of this project, as they were once: the figures must not change with it."""
_CODE, _PAGES = _SAMPLES["code"], _SAMPLES["pages"]
_SHORT = ("Hi", "Thanks!", "What is 2+2?", "Continue.", "Summarize this:", "好的", "Да", "¿Y ahora?", "👍🏽 nice 🎉")
_CLAUDE_FACTOR = 1.35


@dataclass(frozen=True)
class Made:
    """A request, its kinds of content, and the input tokens that it needs."""

    endpoint: str
    body: dict[str, Any]
    kind: str
    needed: int


@dataclass(frozen=True)
class Picture:
    """An image of a size, and its tokens for a model, by the arithmetic that the provider's page shows."""

    model: str
    width: int
    height: int
    detail: str
    tokens: int


PICTURES = (
    Picture("gpt-4o", 1024, 1024, "high", 765),
    Picture("gpt-4o", 2048, 4096, "high", 1105),
    Picture("gpt-4o", 4096, 8192, "low", 85),
    Picture("gpt-4o-mini", 1024, 1024, "high", 2833 + 4 * 5667),
    Picture("gpt-5", 1024, 1024, "high", 70 + 4 * 140),
    Picture("o3", 2048, 4096, "high", 75 + 6 * 150),
    Picture("gpt-4.1-mini", 1024, 1024, "high", math.ceil(1024 * 1.62)),
    Picture("gpt-4.1-mini", 1800, 2400, "high", math.ceil(1452 * 1.62)),
    Picture("gpt-4.1-nano", 640, 480, "high", math.ceil(300 * 2.46)),
    Picture("o4-mini", 100, 100, "high", math.ceil(16 * 1.72)),
    Picture("claude-sonnet-4-6", 200, 200, "", 54),
    Picture("claude-sonnet-4-6", 1000, 1000, "", 1334),
    Picture("claude-sonnet-4-6", 1092, 1092, "", 1590),
    Picture("claude-opus-4-8", 2000, 1500, "", 4000),
    Picture("gemini-2.5-flash", 384, 384, "", 258),
    Picture("gemini-2.5-flash", 960, 540, "", 258 * 6),
)
"""OpenAI's and Anthropic's examples; Gemini's of its page on understanding images."""

OPENAI = ("gpt-4o", "gpt-4o-mini", "gpt-4.1-mini", "gpt-5", "gpt-5-mini", "o3", "gpt-5.6-sol")
OTHERS = ("deepseek-chat", "llama-3.3-70b-versatile", "qwen-plus", "mistral-medium-latest", "gemini-2.5-flash", "gpt-4")
CLAUDE = ("claude-sonnet-4-6", "claude-opus-4-8", "claude-haiku-4-5")


def png(width: int, height: int, size: int = 3000) -> str:
    """Return a data URL with the beginning of a PNG, and nothing of value behind it."""
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x02\0\0\0"
    return "data:image/png;base64," + base64.b64encode(head + b"\xa7" * size).decode()


def made(seed: int, count: int) -> Iterator[Made]:
    """Yield as many requests."""
    maker = _Maker(random.Random(seed))  # noqa: S311 - no secret
    for number in range(count):
        yield maker.one(is_long=number % 50 == 0)


class _Maker:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def one(self, *, is_long: bool) -> Made:
        endpoint = self._chance.choices(
            ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions", "/v1/embeddings",
             "/v1/moderations", "/v1/rerank"),
            (50, 20, 12, 4, 8, 3, 3),
        )[0]  # fmt: skip
        match endpoint:
            case "/v1/chat/completions":
                return self._chat(is_long=is_long)
            case "/v1/responses":
                return self._response(is_long=is_long)
            case "/v1/messages":
                return self._messages(is_long=is_long)
        return self._inputs(endpoint)

    def _chat(self, *, is_long: bool) -> Made:
        model = self._chance.choice(OPENAI if self._chance.random() < 0.8 else OTHERS)
        count = counting.counter(counting.encoding_of(model))
        kind, messages = self._conversation(is_long=is_long)
        needed = counting.messages_tokens(messages, count)
        body: dict[str, Any] = {"model": model, "messages": messages}
        if self._chance.random() < 0.25:
            kind, body["tools"] = "tools", [{"type": "function", "function": one} for one in self._functions()]
            needed += counting.tools_tokens(body["tools"], count, counting.encoding_of(model))
        if self._chance.random() < 0.15:
            schema = self._functions()[0]["parameters"]
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
            needed += count(json.dumps(body["response_format"]["json_schema"], separators=(",", ":")))
        if (pictures := [one for one in PICTURES if one.model == model]) and self._chance.random() < 0.4:
            kind, picture = "images", self._chance.choice(pictures)
            image = {"url": png(picture.width, picture.height), "detail": picture.detail or "auto"}
            text = messages[-1]["content"]
            messages[-1]["content"] = [{"type": "text", "text": text}, {"type": "image_url", "image_url": image}]
            needed += picture.tokens
        return Made("/v1/chat/completions", body, kind, needed)

    def _response(self, *, is_long: bool) -> Made:
        kind, turns = self._conversation(is_long=is_long)
        model = self._chance.choice(OPENAI)
        count = counting.counter("o200k_base")
        body: dict[str, Any] = {"model": model, "input": turns, "instructions": "Answer briefly, in plain words."}
        needed = counting.messages_tokens([{"role": "system", "content": body["instructions"]}, *turns], count)
        if len(turns) == 1 and self._chance.random() < 0.5:
            body["input"] = turns[0]["content"]
        if self._chance.random() < 0.25:
            kind, body["tools"] = "tools", [{"type": "function", **one} for one in self._functions()]
            needed += counting.tools_tokens(body["tools"], count, "o200k_base")
        return Made("/v1/responses", body, kind, needed)

    def _messages(self, *, is_long: bool) -> Made:
        kind, messages = self._conversation(is_long=is_long)
        model, count = self._chance.choice(CLAUDE), counting.counter("o200k_base")
        needed = counting.messages_tokens(messages, count)
        body: dict[str, Any] = {"model": model, "max_tokens": 1000, "messages": messages}
        if self._chance.random() < 0.25:
            kind = "tools"
            body["tools"] = [
                {"name": one["name"], "description": one["description"], "input_schema": one["parameters"]}
                for one in self._functions()
            ]
            needed += count(json.dumps(body["tools"])) + 346
        if (pictures := [one for one in PICTURES if one.model == model]) and self._chance.random() < 0.4:
            kind, picture = "images", self._chance.choice(pictures)
            data = png(picture.width, picture.height).partition(",")[2]
            source = {"type": "base64", "media_type": "image/png", "data": data}
            text = messages[-1]["content"]
            messages[-1]["content"] = [{"type": "image", "source": source}, {"type": "text", "text": text}]
            return Made("/v1/messages", body, kind, math.ceil(needed * _CLAUDE_FACTOR) + picture.tokens)
        return Made("/v1/messages", body, kind, math.ceil(needed * _CLAUDE_FACTOR))

    def _inputs(self, endpoint: str) -> Made:
        kind, text = self._text()
        texts = [text, *(self._text()[1] for _ in range(self._chance.randrange(5)))]
        model = {
            "/v1/completions": "gpt-3.5-turbo-instruct",
            "/v1/embeddings": self._chance.choice(("text-embedding-3-small", "text-embedding-3-large")),
            "/v1/moderations": "omni-moderation-latest",
            "/v1/rerank": "rerank-2.5",
        }[endpoint]
        count = counting.counter("voyage3_base" if model == "rerank-2.5" else counting.encoding_of(model))
        needed = sum(map(count, texts))
        if endpoint == "/v1/rerank":
            query = self._chance.choice(_SHORT)
            body: dict[str, Any] = {"query": query, "documents": texts}
            needed += count(query) * len(texts)
        elif endpoint == "/v1/completions":
            body = {"prompt": texts, "max_tokens": 20}
        else:
            body = {"input": texts if len(texts) > 1 else text}
        return Made(endpoint, {"model": model, **body}, kind, needed)

    def _conversation(self, *, is_long: bool) -> tuple[str, list[Any]]:
        kind, text = self._text()
        if is_long:
            pieces = [text, *(self._text()[1] for _ in range(150))]
            kind, text = "long", "\n\n".join(pieces)
        messages: list[Any] = [{"role": "user", "content": text}]
        if self._chance.random() < 0.6:
            messages.insert(
                0, {"role": "system", "content": "You are a helpful assistant. Answer in the user's language."}
            )
        for _ in range(self._chance.choice((0, 0, 0, 1, 2, 6))):
            messages += [
                {"role": "assistant", "content": self._text()[1]},
                {"role": "user", "content": self._chance.choice((self._text()[1], self._chance.choice(_SHORT)))},
            ]
        return kind, messages

    def _text(self) -> tuple[str, str]:
        kind = self._chance.choices(
            ("prose", "English", "code", "page", "data", "short", "encoded"), (30, 20, 15, 10, 12, 8, 5)
        )[0]
        return kind, getattr(self, f"_{kind.lower()}")()

    def _prose(self) -> str:
        paragraph = self._chance.choice(list(PARAGRAPHS.values()))
        return "\n\n".join([paragraph] * self._chance.randrange(1, 6))

    def _english(self) -> str:
        words = PARAGRAPHS["English"].split()
        return " ".join(self._chance.choices(words, k=self._chance.randrange(30, 400)))

    def _code(self) -> str:
        return self._excerpt(_CODE)

    def _page(self) -> str:
        return self._excerpt(_PAGES)

    def _excerpt(self, texts: list[str]) -> str:
        text = self._chance.choice(texts)
        start = self._chance.randrange(max(len(text) - 300, 1))
        return text[start : start + self._chance.randrange(300, 5000)]

    def _short(self) -> str:
        return self._chance.choice(_SHORT)

    def _data(self) -> str:
        rows = [
            {
                "id": self._chance.randrange(10**9),
                "name": self._chance.choice(PARAGRAPHS["English"].split()),
                "at": f"2026-11-{self._chance.randrange(1, 31):02}T{self._chance.randrange(24):02}:00:00Z",
                "value": self._chance.gauss(0, 100),
                "tags": self._chance.choices(("red", "blue", "late"), k=2),
            }
            for _ in range(self._chance.randrange(2, 40))
        ]
        form = self._chance.randrange(3)
        if form == 0:
            return "\n".join(",".join(map(str, row.values())) for row in rows)
        return json.dumps(rows, indent=2 if form == 1 else None)

    def _encoded(self) -> str:
        data = self._chance.randbytes(self._chance.randrange(50, 2000))
        letters = "".join(self._chance.choices(string.ascii_letters + string.digits, k=len(data)))
        return self._chance.choice((base64.b64encode(data).decode(), data.hex(), letters))

    def _functions(self) -> list[dict[str, Any]]:
        return [self._function(number) for number in range(self._chance.randrange(1, 6))]

    def _function(self, number: int) -> dict[str, Any]:
        words = [word.strip(".,;").lower() for word in PARAGRAPHS["English"].split()]
        properties: dict[str, Mapping[str, Any]] = {
            self._chance.choice(words): self._chance.choice(
                (
                    {"type": "string", "description": " ".join(self._chance.choices(words, k=8)) + "."},
                    {"type": "string", "enum": self._chance.choices(words, k=4)},
                    {"type": "integer", "minimum": 1},
                    {"type": "array", "items": {"type": "string", "description": "One of them."}},
                    {"type": "object", "properties": {"city": {"type": "string"}, "zip": {"type": "string"}}},
                )
            )
            for _ in range(self._chance.randrange(1, 6))
        }
        return {
            "name": f"{self._chance.choice(words)}_{self._chance.choice(words)}_{number}",
            "description": " ".join(self._chance.choices(words, k=12)).capitalize() + ".",
            "parameters": {"type": "object", "properties": properties, "required": [*properties]},
        }
