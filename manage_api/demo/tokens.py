"""Counts tokens, and makes the `usage` object of each API.

The rules are simple on purpose, so that a test can compute the exact number that must be booked:

* input: four characters are a token, each text rounded up on its own;
* output: every word that is sent is a token;
* total: the sum of both. There are no cached, audio or reasoning tokens.
"""

from collections.abc import Iterable
from typing import Any

CHARACTERS_PER_TOKEN = 4


def count_tokens(texts: Iterable[str]) -> int:
    """Count the input tokens of `texts`."""
    return sum(-(-len(text) // CHARACTERS_PER_TOKEN) for text in texts)


def chat_usage(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    """Make the `usage` of a chat completion."""
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def responses_usage(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    """Make the `usage` of a response."""
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + output_tokens,
    }


def realtime_usage(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    """Make the `usage` of a realtime response."""
    return {
        "total_tokens": input_tokens + output_tokens,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "input_token_details": {
            "text_tokens": input_tokens,
            "audio_tokens": 0,
            "image_tokens": 0,
            "cached_tokens": 0,
            "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": output_tokens, "audio_tokens": 0},
    }


def embeddings_usage(input_tokens: int) -> dict[str, Any]:
    """Make the `usage` of embeddings, which have no output tokens."""
    return {"prompt_tokens": input_tokens, "total_tokens": input_tokens}
