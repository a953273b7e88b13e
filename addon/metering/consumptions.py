"""Reads what an answer says was used: its units, the conditions that change their price, and a cost that it tells."""

import re
from collections.abc import Iterator

from addon.metering.names import model_name, tier_name
from addon.protocol.json_fields import Fields, fields, items, text
from addon.protocol.paid_calls import units_of_calls
from addon.protocol.usage_objects import told_cost, units_of, usage_in
from addon.protocol.usages_by_model import Shares, shares_of
from store.ledger.usage import Conditions, Consumption, Units

_BATCH = ("processing", "batch")
_IMAGES = "output_images"
_ALWAYS_SEARCHES = re.compile(r"gpt-[a-z0-9.-]+-search-(preview|api)")
"""Models of OpenAI's chat completions that search the web for each answer, and do not tell so."""


def consumptions_of(answer: Fields, model: str | None, *, makes_no_tokens: bool = False) -> tuple[Consumption, ...]:
    """Return the usage in an answer: of each model where it tells several, else of one; none where it tells none."""
    return tuple(
        [
            used
            for name, usage in _usages(answer)
            for used in consumptions_in(answer, usage, name or model, makes_no_tokens=makes_no_tokens)
        ]
    )


def consumptions_in(
    answer: Fields, usage: Fields, model: str | None, *, makes_no_tokens: bool = False
) -> tuple[Consumption, ...]:
    """Return one usage of an answer, of each model that is paid for it; none where it tells none."""
    units, told = units_of(usage, makes_no_tokens=makes_no_tokens) or _units_of_object(answer), told_cost(usage)
    if units is None and told is None:
        return ()
    shares = shares_of(answer, usage, units or {})
    return by_model(shares, model, calls_of(answer, model), conditions_of(answer, usage), told)


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
    if model is not None and _ALWAYS_SEARCHES.match(model):
        return {"web_searches": 1}
    return units_of_calls(answer)


def conditions_of(answer: Fields, usage: Fields) -> Conditions:
    """Return the conditions that an answer and its usage name, in a fixed order."""
    tier = tier_name(answer.get("service_tier")) or tier_name(usage.get("service_tier"))
    found = []
    if text(answer, "object") == "batch" or tier == "batch":
        found.append(_BATCH)
    elif tier is not None:
        found.append(("service_tier", tier))
    for name, value in (("speed", "fast"), ("inference_geo", "us")):  # Anthropic's
        if usage.get(name) == value:
            found.append((name, value))
    return tuple(found)


def _usages(answer: Fields) -> Iterator[tuple[str | None, Fields]]:
    """Yield the usages in an answer, with their models where these are named beside them, as in OpenAI's evals."""
    by_model = items(answer, "per_model_usage")
    if not by_model:
        yield None, usage_in(answer, answer)
    for each in map(fields, by_model):
        yield model_name(each.get("model_name")), each


def _units_of_object(answer: Fields) -> Units | None:
    """Return the units of an object that has no usage: those of a video are its seconds."""
    seconds = text(answer, "seconds")
    if text(answer, "object") == "video" and text(answer, "status") == "completed" and seconds.isdecimal():
        return {"video_seconds": int(seconds[:9])}
    return None
