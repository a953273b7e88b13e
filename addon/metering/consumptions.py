"""Reads what an answer says was used: its units, the conditions that change their price, and a cost that it tells."""

import re

from addon.metering.names import model_name, tier_name
from addon.protocol.json_fields import Fields, fields, items, text
from addon.protocol.paid_calls import units_of_calls
from addon.protocol.usage_objects import told_cost, units_of, usage_in
from addon.protocol.usages_by_model import Shares, names_models, shares_of
from store.ledger.usage import Conditions, Consumption, Units

_BATCH = ("processing", "batch")
_TIER = "service_tier"
_BY_MODEL = "per_model_usage"
"""The usages of OpenAI's runs of evals, with their models."""
_IMAGES = "output_images"
_SEARCH = "-search-"
_ALWAYS_SEARCHES = re.compile(r"gpt-[a-z0-9.-]+-search-(preview|api)")
"""Models of OpenAI's chat completions that search the web for each answer, and do not tell so."""


def consumptions_of(answer: Fields, model: str | None, *, makes_no_tokens: bool = False) -> tuple[Consumption, ...]:
    """Return the usage in an answer: of each model where it tells several, else of one; none where it tells none."""
    if _BY_MODEL not in answer:
        return consumptions_in(answer, usage_in(answer, answer), model, makes_no_tokens=makes_no_tokens)
    return tuple(
        [
            used
            for usage in map(fields, items(answer, _BY_MODEL))
            for used in consumptions_in(answer, usage, model_name(usage.get("model_name")) or model)
        ]
    )


def consumptions_in(
    answer: Fields, usage: Fields, model: str | None, *, makes_no_tokens: bool = False
) -> tuple[Consumption, ...]:
    """Return one usage of an answer, of each model that is paid for it; none where it tells none."""
    units, told = units_of(usage, makes_no_tokens=makes_no_tokens) or _units_of_object(answer), told_cost(usage)
    if units is None and told is None:
        return ()
    calls, conditions = calls_of(answer, model), conditions_of(answer, usage)
    if names_models(answer, usage):
        return by_model(shares_of(answer, usage, units or {}), model, calls, conditions, told)
    return (Consumption(model, {**calls, **(units or {})} if calls else units or {}, conditions, told),)


def by_model(
    shares: Shares, model: str | None, calls: Units, conditions: Conditions, told: int | None
) -> tuple[Consumption, ...]:
    """Return the shares of a usage. The first model has called the tools, and the told cost is its own.

    Images that a second model has made are that one's, and no calls beside it.
    """
    if not shares:
        return ()
    (first, units), *others = shares.items()
    images = calls.get(_IMAGES, 0) if others else 0
    if images:
        calls = {unit: count - images if unit == "tool_calls" else count for unit, count in calls.items()}
        calls = {unit: count for unit, count in calls.items() if count and unit != _IMAGES}
    used = Consumption(model_name(first) or model, {**calls, **units} if calls else units, conditions, told)
    made = {_IMAGES: images} if images else {}
    return (used, *[Consumption(model_name(name), {**made, **share}, conditions) for name, share in others])


def calls_of(answer: Fields, model: str | None) -> Units:
    """Return the units of the tools that were called, as the answer tells or the model always does."""
    if model is not None and _SEARCH in model and _ALWAYS_SEARCHES.match(model):
        return {"web_searches": 1}
    return units_of_calls(answer)


def conditions_of(answer: Fields, usage: Fields) -> Conditions:
    """Return the conditions that an answer and its usage name, in a fixed order."""
    tier = tier_name(answer.get(_TIER)) or tier_name(usage.get(_TIER))
    is_batch = tier == "batch" or answer.get("object") == "batch"
    if tier is None and not is_batch and "speed" not in usage and "inference_geo" not in usage:
        return ()
    found = []
    if is_batch:
        found.append(_BATCH)
    elif tier is not None:
        found.append((_TIER, tier))
    for name, value in (("speed", "fast"), ("inference_geo", "us")):  # Anthropic's
        if usage.get(name) == value:
            found.append((name, value))
    return tuple(found)


def _units_of_object(answer: Fields) -> Units | None:
    """Return the units of an object that has no usage: those of a video are its seconds."""
    seconds = text(answer, "seconds")
    if text(answer, "object") == "video" and text(answer, "status") == "completed" and seconds.isdecimal():
        return {"video_seconds": int(seconds[:9])}
    return None
