"""Reads the usage objects of OpenAI's API, of Anthropic's, and of providers that speak either, in genai-prices' units.

Providers differ in two ways: in the names of the parts, and in what their totals leave out. Reasoning stands beside the
output at some (xAI, Gemini's OpenAI-style API, Perplexity), cached input beside the input at others (Anthropic), and
audio and the results of tools beside the prompt at Mistral. Here `input_tokens` and `output_tokens` are always the
totals that are paid.

The ledger and mitmweb both read usages here, so that they cannot disagree.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal

from addon.protocol.json_fields import Fields, fields, items, text
from store.ledger.usage import COST_UNIT, MAX_COST, MAX_COUNT, Units

type _Path = tuple[str, ...]

_CHAT_INPUT, _CHAT_OUTPUT = "prompt_tokens_details", "completion_tokens_details"
_INPUT, _OUTPUT = "input_tokens_details", "output_tokens_details"
"""Of responses and images."""
_REALTIME_INPUT, _REALTIME_OUTPUT = "input_token_details", "output_token_details"
"""Of Realtime and transcriptions."""
_CACHED = (_REALTIME_INPUT, "cached_tokens_details")
_CACHE_READ, _CACHE_WRITTEN = "cache_read_input_tokens", "cache_creation_input_tokens"
"""Of Anthropic's messages, whose `input_tokens` do not include them."""
_SEARCHES, _CITATIONS = "num_search_queries", "citation_tokens"
"""Of Perplexity, whose reasoning and citations stand beside the output, whatever the total is."""
_TOOLS_OF_XAI = "server_side_tool_usage_details"
_AUDIO_OF_THE_PROMPT, _RESULTS_OF_TOOLS = "prompt_audio_seconds", "connector_tokens"
"""Of Mistral, whose audio and results of tools stand beside the prompt, the audio in the total only."""
_BILLED = "billed_units"
"""Of Cohere, beside the tokens that its models have read and written."""
ITERATIONS, _COMPACTION = "iterations", "compaction"
"""Of Anthropic, whose totals leave out the summary of a conversation that has become too long."""
_TOTAL_NAMES = {"prompt_tokens", _INPUT, _REALTIME_INPUT}
"""Names that show that the input is a total: some gateways send the names of both APIs."""

_PATHS: Mapping[str, tuple[_Path, ...]] = {
    "input_tokens": (("prompt_tokens",), ("input_tokens",)),
    "output_tokens": (("completion_tokens",), ("output_tokens",)),
    "cache_read_tokens": (
        (_CHAT_INPUT, "cached_tokens"),
        (_INPUT, "cached_tokens"),
        (_REALTIME_INPUT, "cached_tokens"),
        (_INPUT, _CACHE_READ),
        (_CACHE_READ,),
        ("prompt_cache_hit_tokens",),
        ("cached_tokens",),
        ("num_cached_tokens",),
        ("prompt_token_details", "cached_tokens"),
        ("cached_prompt_text_tokens",),
    ),
    "cache_write_tokens": (
        (_CHAT_INPUT, "cache_write_tokens"),
        (_INPUT, "cache_write_tokens"),
        (_CHAT_INPUT, _CACHE_WRITTEN),
        (_CHAT_INPUT, "cache_creation_tokens"),
        (_CACHE_WRITTEN,),
    ),
    "cache_write_5m_tokens": (
        ("cache_creation", "ephemeral_5m_input_tokens"),
        (_CHAT_INPUT, "cache_creation", "ephemeral_5m_input_tokens"),
        (_CHAT_INPUT, "cache_creation_token_details", "ephemeral_5m_input_tokens"),
        (_CHAT_INPUT, "cache_write_details", "write_5m_tokens"),
        ("claude_cache_creation_5_m_tokens",),
    ),
    "cache_write_1h_tokens": (
        ("cache_creation", "ephemeral_1h_input_tokens"),
        (_CHAT_INPUT, "cache_creation", "ephemeral_1h_input_tokens"),
        (_CHAT_INPUT, "cache_creation_token_details", "ephemeral_1h_input_tokens"),
        (_CHAT_INPUT, "cache_write_details", "write_1h_tokens"),
        ("claude_cache_creation_1_h_tokens",),
    ),
    "output_reasoning_tokens": (
        (_CHAT_OUTPUT, "reasoning_tokens"),
        (_OUTPUT, "reasoning_tokens"),
        (_OUTPUT, "thinking_tokens"),
        (_REALTIME_OUTPUT, "reasoning_tokens"),
        ("reasoning_tokens",),
    ),
    "output_citation_tokens": ((_CITATIONS,),),
    "input_text_tokens": ((_INPUT, "text_tokens"), (_REALTIME_INPUT, "text_tokens")),
    "input_audio_tokens": ((_CHAT_INPUT, "audio_tokens"), (_REALTIME_INPUT, "audio_tokens")),
    "input_image_tokens": (
        (_CHAT_INPUT, "image_tokens"),
        (_INPUT, "image_tokens"),
        (_REALTIME_INPUT, "image_tokens"),
    ),
    "input_video_tokens": ((_CHAT_INPUT, "video_tokens"),),
    "output_text_tokens": ((_OUTPUT, "text_tokens"), (_REALTIME_OUTPUT, "text_tokens")),
    "output_audio_tokens": ((_CHAT_OUTPUT, "audio_tokens"), (_REALTIME_OUTPUT, "audio_tokens")),
    "output_image_tokens": ((_CHAT_OUTPUT, "image_tokens"), (_OUTPUT, "image_tokens")),
    "cache_text_read_tokens": ((*_CACHED, "text_tokens"),),
    "cache_audio_read_tokens": ((*_CACHED, "audio_tokens"),),
    "cache_image_read_tokens": ((*_CACHED, "image_tokens"),),
    "web_searches": (
        ("server_tool_use", "web_search_requests"),
        ("server_tool_use_details", "web_search_requests"),
        (_CHAT_INPUT, "web_search_requests"),
        (_SEARCHES,),
        ("tool_calls_details", "search_web", "invocation"),
        (_TOOLS_OF_XAI, "web_search_calls"),
        ("connectors", "web_search"),
    ),
    "storage_searches": ((_TOOLS_OF_XAI, "file_search_calls"), ("connectors", "document_library")),
    "tool_calls": ((_TOOLS_OF_XAI, "x_search_calls"), ("num_sources_used",), ("connectors", "web_search_premium")),
    "code_containers": ((_TOOLS_OF_XAI, "code_interpreter_calls"), ("connectors", "code_interpreter")),
    "input_document_pages": (("pages_processed",),),
}
"""The paths of each unit, in the names of each API. Input and output are totals, other tokens are parts of them.

Cache writes have the names of Anthropic, DashScope, LiteLLM, Helicone and New API.
"""

_LIVES = ("cache_write_5m_tokens", "cache_write_1h_tokens")
"""Parts of the cache writes. Some tell them alone."""

_NAMES = frozenset(path[0] for paths in _PATHS.values() for path in paths)
_INNER_NAMES = frozenset(path[1] for paths in _PATHS.values() for path in paths if len(path) > 1)

_COSTS = frozenset({"cost", "estimated_cost", "cost_in_usd_ticks"})
_TICK = COST_UNIT // 10**10
"""COST_UNITs in a tick, xAI's unit of money."""

_SECONDS = ("seconds", _AUDIO_OF_THE_PROMPT, "billable_audio_seconds")
"""Names of the seconds of audio, the first of which counts."""


def usage_in(event: Fields, holder: Fields) -> Fields:
    """Return the usage of a response or an event: of what it holds, or of itself (xAI's Realtime).

    It may also stand in `x_groq` (Groq), in a choice that ends (Moonshot), in `usage_info` (Mistral's OCR), or in
    `meta` (Cohere). A transcript with its segments tells the duration of the audio.
    """
    return (
        fields(holder, "usage")
        or fields(event, "usage")
        or fields(fields(event, "x_groq"), "usage")
        or next(
            (fields(choice, "usage") for choice in items(event, "choices") if text(fields(choice), "finish_reason")), {}
        )
        or fields(event, "usage_info")
        or fields(fields(holder, "meta"), _BILLED)
        or ({"seconds": event.get("duration")} if "segments" in event else {})
    )


def told_cost(usage: Mapping[str, object]) -> int | None:
    """Return the cost that a usage tells, in COST_UNITs; None where it tells none.

    `cost` is OpenRouter's, whose `cost_details` hold what is paid elsewhere with a key of the customer's own; or an
    object, at Perplexity. `estimated_cost` is DeepInfra's, `cost_in_usd_ticks` xAI's.
    """
    if _COSTS.isdisjoint(usage):
        return None
    cost = usage.get("cost", usage.get("estimated_cost"))
    if cost is None:
        ticks = _count(usage.get("cost_in_usd_ticks"))
        return None if ticks is None else ticks * _TICK
    paid = [fields(cost).get("total_cost") if isinstance(cost, dict) else cost]
    if usage.get("is_byok") is True:
        paid.append(fields(usage, "cost_details").get("upstream_inference_cost"))
    costs = [_in_cost_units(each) for each in paid]
    known = [each for each in costs if each is not None]
    return sum(known) if len(known) == len(costs) else None


def units_of(usage: Mapping[str, object], *, makes_no_tokens: bool = False) -> Units | None:
    """Return the units that a usage object, parsed JSON, reports, or None where it reports none.

    A value that is not a whole number from 0 to MAX_COUNT counts as absent. Seconds of audio are rounded up. Where no
    tokens are made, as by embeddings, a total alone is the input.
    """
    if _BILLED in usage:
        usage = fields(usage[_BILLED])
    found = [(unit, _first_count(usage, paths)) for unit, paths in _paths_from(_known_names(usage))]
    units = {unit: count for unit, count in found if count is not None}
    if not units.keys().isdisjoint(_LIVES):
        units.setdefault("cache_write_tokens", min(sum(units.get(life, 0) for life in _LIVES), MAX_COUNT))
    if _TOTAL_NAMES.isdisjoint(usage):
        _add_cached(units)
    _add_what_totals_leave_out(usage, units)
    if not usage.keys().isdisjoint(_SECONDS):
        _add_seconds(usage, units)
    if not units and makes_no_tokens and (whole := _count(usage.get("total_tokens"))) is not None:
        units["input_tokens"] = whole
    if ITERATIONS in usage:
        return _with_compactions(usage, units) or None
    return units or None


def _known_names(usage: Mapping[str, object]) -> tuple[str | _Path, ...]:
    """Return the names in a usage object; that of an object with the names in it."""
    return tuple(
        [
            (name, *[inner for inner in value if inner in _INNER_NAMES]) if type(value) is dict else name
            for name, value in usage.items()
            if name in _NAMES
        ]
    )


@functools.lru_cache(maxsize=128)
def _paths_from(known: Sequence[str | _Path]) -> Sequence[tuple[str, Sequence[_Path]]]:
    """Return the units that a usage object with these names may report, and their paths: each API has a few forms."""
    flat = {(name,) for name in known if isinstance(name, str)}
    present = flat | {(outer[0], inner) for outer in known if not isinstance(outer, str) for inner in outer[1:]}
    possible = {unit: [path for path in paths if path[:2] in present] for unit, paths in _PATHS.items()}
    return [(unit, paths) for unit, paths in possible.items() if paths]


def _add_cached(units: dict[str, int]) -> None:
    """Add the cached tokens to Anthropic's `input_tokens`, where these are reported, to make them a total."""
    if "input_tokens" in units:
        _add(units, "input_tokens", units.get("cache_read_tokens", 0) + units.get("cache_write_tokens", 0))


def _add_what_totals_leave_out(usage: Mapping[str, object], units: dict[str, int]) -> None:
    """Add to the input and the output what stands beside them, as the total or a part that exceeds its whole shows."""
    whole, output = units.get("input_tokens"), units.get("output_tokens")
    if output is None:
        return
    reasoning = units.get("output_reasoning_tokens", 0)
    if _SEARCHES in usage or _CITATIONS in usage:
        _add(units, "output_tokens", reasoning + units.get("output_citation_tokens", 0))
        return
    missing = 0 if whole is None else (_count(usage.get("total_tokens")) or 0) - whole - output
    cached = units.get("cache_read_tokens", 0) + units.get("cache_write_tokens", 0)
    if whole is not None and cached > whole:
        _add(units, "input_tokens", cached)
        missing -= cached if missing >= cached else 0
    if missing > 0 and _AUDIO_OF_THE_PROMPT in usage:
        _add(units, "input_tokens", missing)
        units["input_audio_tokens"] = missing
    elif missing > 0 and (_count(usage.get(_RESULTS_OF_TOOLS)) or (missing == cached and missing != reasoning)):
        _add(units, "input_tokens", missing)
    else:
        _add(units, "output_tokens", max(missing, reasoning if reasoning > output else 0))


def _add_seconds(usage: Mapping[str, object], units: dict[str, int]) -> None:
    seconds = next((count for name in _SECONDS if (count := _rounded_up(usage.get(name))) is not None), None)
    if seconds is not None:
        units["audio_seconds"] = seconds


def _with_compactions(usage: Mapping[str, object], units: Units) -> Units:
    """Add the summaries of the conversation, which are paid too."""
    iterations = map(fields, items(dict(usage), ITERATIONS))
    summaries = [units_of(one) for one in iterations if text(one, "type") == _COMPACTION]
    return functools.reduce(total, filter(None, summaries), units)


def _add(units: dict[str, int], unit: str, count: int) -> None:
    if count > 0:
        units[unit] = min(units[unit] + count, MAX_COUNT)


def total(one: Units, other: Units) -> Units:
    """Return the sum of two consumptions; no unit exceeds MAX_COUNT."""
    return {unit: min(one.get(unit, 0) + other.get(unit, 0), MAX_COUNT) for unit in {**one, **other}}


def _first_count(usage: Mapping[str, object], paths: Sequence[_Path]) -> int | None:
    for path in paths:
        found = usage.get(path[0])
        for name in path[1:]:
            found = found.get(name) if type(found) is dict else None
        if found is not None and (count := _count(found)) is not None:
            return count
    return None


def _count(value: object) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= MAX_COUNT else None


def _in_cost_units(dollars: object) -> int | None:
    if isinstance(dollars, bool) or not isinstance(dollars, int | float | str):
        return None
    try:
        cost = round(Decimal(str(dollars)) * COST_UNIT)
    except (ArithmeticError, ValueError):
        return None
    return cost if 0 <= cost <= MAX_COST else None


def _rounded_up(value: object) -> int | None:
    if isinstance(value, float) and math.isfinite(value) and value >= 0:
        return _count(math.ceil(value))
    return _count(value)
