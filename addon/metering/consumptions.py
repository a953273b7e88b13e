"""Reads what an answer says was used: its units, the conditions that change their price, and a cost that it tells."""

import re
from collections.abc import Iterator

from addon.metering.names import model_name, tier_name
from addon.protocol.json_fields import Fields, fields, items, text
from addon.protocol.paid_calls import units_of_calls
from addon.protocol.usage_objects import told_cost, units_of, usage_in
from store.ledger.usage import Conditions, Consumption, Units

_BATCH = ("processing", "batch")
_ALWAYS_SEARCHES = re.compile(r"gpt-[a-z0-9.-]+-search-(preview|api)")
"""Models of OpenAI's chat completions that search the web for each answer, and do not tell so."""


def consumptions_of(answer: Fields, model: str | None) -> tuple[Consumption, ...]:
    """Return the usage in an answer: of each model where it tells several, else of one; none where it tells none."""
    found = [consumption_of(answer, usage, name or model) for name, usage in _usages(answer)]
    return tuple(each for each in found if each is not None)


def consumption_of(answer: Fields, usage: Fields, model: str | None) -> Consumption | None:
    """Return one usage of an answer, with the tools that were called; None where it tells none."""
    units = units_of(usage) or _units_of_object(answer)
    if units is None:
        return None
    calls = calls_of(answer, model)
    return Consumption(model, {**calls, **units} if calls else units, conditions_of(answer, usage), told_cost(usage))


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
