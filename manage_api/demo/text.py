"""Reads messages and makes the text of the reply."""

from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from manage_api.demo.errors import invalid_request
from manage_api.demo.tokens import count_tokens

OPENING = "This is the demo upstream, no model was asked."
NO_MESSAGE = "You said nothing."


@dataclass(frozen=True)
class Message:
    """One message of a conversation, reduced to its text."""

    role: str
    text: str


@dataclass(frozen=True)
class Reply:
    """A reply: `words` as they are streamed, each but the first with a space before it."""

    words: list[str]
    input_tokens: int

    @property
    def text(self) -> str:
        """The whole reply."""
        return "".join(self.words)

    @property
    def output_tokens(self) -> int:
        """The output tokens of the reply: one a word."""
        return len(self.words)


def reply_to(messages: list[Message], words: int | None = None) -> Reply:
    """Reply to the last user message. `words` repeats or cuts the reply to that many words."""
    text = next((message.text for message in reversed(messages) if message.role == "user"), "")
    sentence = f"{OPENING} You said: {text}" if text.strip() else f"{OPENING} {NO_MESSAGE}"
    plain = sentence.split()
    if words is not None:
        plain = list(islice(cycle(plain), words))
    spaced = plain[:1] + [f" {word}" for word in plain[1:]]
    return Reply(spaced, count_tokens(message.text for message in messages))


def read_messages(items: list[Any], param: str) -> list[Message]:
    """Read chat messages or input items; `param` names their list in the error that a non-object raises."""
    return [_read_message(item, f"{param}[{index}]") for index, item in enumerate(items)]


def _read_message(item: object, param: str) -> Message:
    if not isinstance(item, dict):
        raise invalid_request(f"Invalid type for '{param}': expected an object.", code="invalid_type", param=param)
    return Message(str(item.get("role", "")), _text_of(item.get("content")))


def _text_of(content: object) -> str:
    """Return the text of `content`: a string, or a list of parts, of which those without text are skipped."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, dict))
    return " ".join(text for text in texts if isinstance(text, str))
