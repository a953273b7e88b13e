"""The vocabularies of tokenizers, as far as models share the rates of one."""

import re
from enum import Enum

from addon.remembered import remembered

_OPENAI = re.compile(
    r"(ft:)?(gpt-4o|gpt-4\.1|gpt-4\.5|gpt-5|gpt-[6-9]|chatgpt|o[1-9]|gpt-oss|gpt-image|gpt-audio|gpt-realtime|"
    r"computer-use|codex|omni-moderation)"
)
_CLAUDE = re.compile(r"(claude|anthropic)")


class Vocabulary(Enum):
    """A kind of tokenizer. Its value is the percentage of the rates for others that it has; O200K has its own."""

    O200K = 0
    """OpenAI's since GPT-4o, gpt-oss among them."""
    OTHER = 100
    """The dearest of OpenAI's older one, Llama, Qwen, DeepSeek, Gemini and Claude until 4.6."""
    CLAUDE = 135
    """The newest of Claude need up to 1.35 times the tokens of the former, as Anthropic says for Opus 4.7
    (https://www.anthropic.com/news/claude-opus-4-7). Their tokenizer is not published."""

    __hash__ = object.__hash__  # there is one of each; that of Enum takes several times as long


@remembered
def vocabulary_of(model: str) -> Vocabulary:
    """Return the vocabulary of a model by its name, with a router's prefix or without; OTHER for an unknown one."""
    name = model.lower().rpartition("/")[2]
    if _OPENAI.match(name.removeprefix("openai.")):
        return Vocabulary.O200K
    return Vocabulary.CLAUDE if _CLAUDE.search(name) else Vocabulary.OTHER
