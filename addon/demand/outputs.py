"""Reads how much output a request allows itself."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from addon.protocol.json_fields import Fields, fields

_LIMITS = (
    "max_completion_tokens", "max_tokens", "max_output_tokens", "max_new_tokens", "max_tokens_to_sample",
    "max_response_output_tokens", "maxOutputTokens",
)  # fmt: skip
_CARRIERS = ("generationConfig", "generation_config", "completion_args")
"""Objects in which Gemini's and Mistral's own forms have their limits."""
_BUDGETS: Mapping[str, str] = {
    "thinking_budget": "",
    "thinking_token_budget": "",
    "reasoning_budget": "",
    "max_thinking_tokens": "",
    "max_reasoning_tokens": "",
    "reasoning": "max_tokens",
    "thinking": "budget_tokens",
    "thinkingConfig": "thinkingBudget",
    "thinking_config": "thinking_budget",
}
"""Fields of the tokens of reasoning, and where they are objects the field in them: those of Qwen, vLLM, OpenRouter,
Anthropic and Gemini among them."""
_CHOICES = ("n", "best_of", "candidateCount", "num_generations")
_MOST_CHOICES = 10_000

_WHOLE = re.compile(r"\s*\+?([0-9]{1,30})(\.0*)?\s*")
"""A whole number as readers of forms, and lenient ones of JSON, take it from a text."""


SELDOM = frozenset({*_CARRIERS, *_BUDGETS, *_CHOICES})
"""Fields that few requests have. Without them there is one answer, and its limit is all that bounds it."""


class Limits(NamedTuple):
    """The names of the fields from which the upstream of an endpoint takes the limit of an answer."""

    own: tuple[str, ...]
    includes_thinking: bool = False
    """True if the limit includes `thinking.budget_tokens`. Other budgets of reasoning come beside a limit."""


OF_CHAT = Limits(("max_tokens", "max_completion_tokens"))
OF_MESSAGES = Limits(("max_tokens",), includes_thinking=True)
OF_RESPONSES = Limits(("max_output_tokens",))
UNKNOWN = Limits(())


def choices_of(body: Fields) -> int:
    """Return the number of answers that a request asks for."""
    return min(max([whole(value) or 1 for _, value in _given(body, _CHOICES)], default=1), _MOST_CHOICES)


def unread(body: Fields) -> str:
    """Return the name of a field that asks for several answers in a form that is not known; an empty text for none."""
    return next((name for name, value in _given(body, _CHOICES) if is_unread(value)), "")


def is_unread(value: object) -> bool:
    """Tell whether a value is given, and is no whole number."""
    return value is not None and whole(value) is None


def limit_of(body: Fields, limits: Limits) -> int | None:
    """Return the most tokens of one answer, reasoning among them; None where a request sets no bound.

    Without one of the endpoint's own fields there is none, as its upstream ignores the names of others. Of several
    limits the highest holds. One that cannot be read may stand for no limit, as -1 does.
    """
    if not [name for name in limits.own if name in body and body[name] is not None]:
        return None
    limit = _largest([whole(value) or None for _, value in _given(body, _LIMITS)])
    budget = 0 if SELDOM.isdisjoint(body) else _budget_of(body, limits)
    return None if limit is None or budget is None else limit + budget


def _budget_of(body: Fields, limits: Limits) -> int | None:
    """Return the tokens of reasoning beside the limit; None where they are not bounded, as with Gemini's -1."""
    given = [fields(value).get(within) if (within := _BUDGETS[name]) else value
             for name, value in _given(body, _BUDGETS)
             if not (limits.includes_thinking and name == "thinking")]  # fmt: skip
    return _largest([0, *[whole(value) for value in given if value is not None]])


def whole(value: object) -> int | None:
    """Return a whole number from 0 on; None for anything else. Of a list, as forms have it, the largest."""
    if isinstance(value, int):
        return value if value >= 0 and not isinstance(value, bool) else None
    if isinstance(value, list):
        return _largest([whole(one) for one in value if not isinstance(one, list)])
    if isinstance(value, str) and (text := _WHOLE.fullmatch(value)):
        return int(text[1])
    return int(value) if isinstance(value, float) and value.is_integer() and value >= 0 else None


def _largest(numbers: Sequence[int | None]) -> int | None:
    """Return the largest; None where one could not be read."""
    known = [one for one in numbers if one is not None]
    return max(known) if known and len(known) == len(numbers) else None


def _given(body: Fields, names: Iterable[str]) -> list[tuple[str, object]]:
    """Return those of these fields that are given, each with its value: in the body itself, and in its carriers."""
    carriers = [fields(body, name) for name in _CARRIERS if name in body]
    return [(name, one[name]) for one in (body, *carriers) for name in names if name in one and one[name] is not None]
