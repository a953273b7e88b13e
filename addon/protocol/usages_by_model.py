"""Divides the usage of a response by the models that it is paid for, where the response names several.

Anthropic's advisor is a second model: its tokens stand in `iterations` alone. A model that has served a response in the
place of another one is named there too. OpenAI's responses tell the usage of their tool for images beside their own.
Groq's compound systems are paid by the models that they ask, which stand in `usage_breakdown`.
"""

import functools
from collections.abc import Iterator, Mapping

from addon.protocol.json_fields import Fields, fields, items, text
from addon.protocol.usage_objects import ITERATIONS, total, units_of
from store.ledger.usage import Units

type Shares = Mapping[str | None, Units]
"""The units by their model; None stands for the model that has answered."""

_ADVISOR, _FALLBACK = "advisor_message", "fallback_message"
_BREAKDOWN = "usage_breakdown"
_TOOLS, _IMAGES = "tool_usage", "image_generation"
_MOST_MODELS = 32
_PLACES = frozenset({_TOOLS, _BREAKDOWN, "x_groq"})


def served_by(usage: Fields) -> str:
    """Return the model that has served a response in the place of the one that began it, or an empty text."""
    return next((text(one, "model") for one in _iterations(usage) if text(one, "type") == _FALLBACK), "")


def names_models(holder: Fields, usage: Fields) -> bool:
    """Tell whether a usage may name other models than the one that has answered."""
    return ITERATIONS in usage or not _PLACES.isdisjoint(holder)


def shares_of(holder: Fields, usage: Fields, units: Units) -> Shares:
    """Divide the units of the usage of a response, or of an event that has one."""
    if ITERATIONS in usage:
        advice = [one for one in _iterations(usage) if text(one, "type") == _ADVISOR]
        return {None: units, **_summed(advice)}
    if _TOOLS in holder:
        return {None: units, **_images(holder)}
    breakdown = fields(holder, _BREAKDOWN) or fields(fields(holder, "x_groq"), _BREAKDOWN)
    asked = _summed([fields(one) for one in items(breakdown, "models")]) if breakdown else {}
    # In streams each model has the usage of all of them: it tells nothing about the models then.
    return asked if asked and functools.reduce(total, asked.values()) == units else {None: units}


def _images(response: Fields) -> Shares:
    """Return the units of a response's tool for images; under the tool's name where its model is not told."""
    units = units_of(fields(fields(response, _TOOLS), "image_gen")) or {}
    tools = [tool for tool in map(fields, items(response, "tools")) if text(tool, "type") == _IMAGES]
    model = next(filter(None, (text(tool, "model") for tool in tools)), _IMAGES)
    return {model: units} if any(units.values()) else {}


def _iterations(usage: Fields) -> Iterator[Fields]:
    return map(fields, items(usage, ITERATIONS))


def _summed(uses: list[Fields]) -> dict[str | None, Units]:
    """Sum up the usages of models: each stands beside its model's name, or in `usage`."""
    sums: dict[str | None, Units] = {}
    for one in uses:
        name, units = text(one, "model"), units_of(fields(one, "usage") or one)
        if name and units is not None and (name in sums or len(sums) < _MOST_MODELS):
            sums[name] = total(sums.get(name, {}), units)
    return sums
