"""The most that a request may use, before it is sent: its tokens, and their cost at the dearest, at present prices."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from store.admission.decision import BoundsOf, TokenRow
from store.errors import CostNotBounded, ModelNotPriced, TokenRefused
from store.ledger import listed_prices
from store.ledger.pricing import Pricing
from store.ledger.usage import Conditions, Consumption
from store.limits.bound import NOTHING_USED, Bound, Bounds
from store.policies import endpoints
from store.request import Demand, Opening, Reading

CONTEXT_WINDOW = 1_000_000
"""Tokens that are taken for the context window of a model whose own is not known: that of the largest."""

_MANY = 1_000_000
"""Tokens of output from which the price of one is computed."""

_NOT_READ = Demand(output_tokens=None, refers=True)
"""The demand of a request of which not enough could be read: its input is the model's context window."""

_NO_MONEY = Bound(0, 0)
_NOT_KNOWN = Bound(1, 0)
"""Is reserved where an operator lets pass what has no price: it does not pass a budget that is spent."""


class _Tariff(NamedTuple):
    """The prices of a request's project and upstream now."""

    charge: Callable[[Consumption], int | None]
    """Returns the cost of a usage; None where that is not known as a whole."""
    pays_images: Callable[[str, Conditions], bool]
    """Tells whether a model has rates for the tokens of images."""


class Bounding:
    """Bounds requests. For the writer thread."""

    def __init__(self, pricing: Pricing) -> None:
        self._pricing = pricing

    def bounds_of(self, now: int) -> BoundsOf:
        """Return the function that bounds the requests of one batch, at a time; it reads the own prices once."""
        is_fresh = False

        def bounds(row: TokenRow, opening: Opening, has_budget: bool) -> Bounds | TokenRefused:
            nonlocal is_fresh
            reading = opening.reading
            if reading is None or not reading.generates:
                return NOTHING_USED
            demand = reading.demand or _NOT_READ
            tokens = Bound(_input_of(reading, demand, opening.upstream), 1)
            usd: Bound | TokenRefused = _NO_MONEY
            if has_budget and not is_fresh:
                self._pricing.refresh()
                is_fresh = True
            if has_budget:
                place = (row.project_id, opening.upstream, now)
                tariff = _Tariff(
                    functools.partial(self._charge, *place), functools.partial(self._pricing.pays_images, *place)
                )
                usd = _refusal(row, opening, reading, demand) or _usd(tariff, reading, demand, tokens.base)
            return usd if isinstance(usd, TokenRefused) else Bounds(tokens, usd, demand.output_tokens, demand.choices)

        return bounds

    def _charge(self, project_id: str, upstream: str, now: int, used: Consumption) -> int | None:
        charge = self._pricing.charge(project_id, upstream, used, used.model, now)
        return None if charge is None or charge.is_minimum else charge.cost


def _refusal(row: TokenRow, opening: Opening, reading: Reading, demand: Demand) -> TokenRefused | None:
    """Return why a budget cannot bound a request, whatever its model costs."""
    is_written_out = bool(demand.unbounded) and _is_written_out(row, opening)
    if demand.unbounded and not is_written_out:
        return CostNotBounded(
            f"There is a budget, and the cost of this request has no bound. {demand.unbounded} An operator can allow "
            "it by an entry of 'allowed_endpoints' that writes this endpoint out: an estimate is reserved then."
        )
    if not is_written_out and (reading.doubt or not reading.models):
        why = reading.doubt or "It names no model."
        return ModelNotPriced(f"There is a budget, and the price of this request is not known. {why}")
    return None


def _usd(tariff: _Tariff, reading: Reading, demand: Demand, input_tokens: int) -> Bound | TokenRefused:
    """Return the most that a request costs, by the dearest of the models that it names."""
    found = _NO_MONEY if reading.models else _NOT_KNOWN
    for model in reading.models:
        bound = _usd_of(tariff, model, demand, input_tokens)
        if bound is None:
            return ModelNotPriced(
                f"There is a budget, and the model '{model}' has no price that covers this request. An operator can "
                "set one: PUT /manage/prices."
            )
        found = Bound(max(found.base, bound.base), max(found.each, bound.each))
    return found


def _usd_of(tariff: _Tariff, model: str, demand: Demand, input_tokens: int) -> Bound | None:
    """Return the most that a request to a model costs; None where its price is not known as a whole."""
    bases, each = [], []
    pays_images = tariff.pays_images(model, demand.conditions)
    for units, unit_of_output in _ways_to_pay(demand, input_tokens, pays_images=pays_images):
        most = {**units, "output_tokens": _MANY, **({unit_of_output: _MANY} if unit_of_output else {})}
        base = tariff.charge(Consumption(model, {**units, "output_tokens": 0}, demand.conditions))
        much = tariff.charge(Consumption(model, most, demand.conditions))
        if base is None or much is None:
            return None
        bases.append(base)
        each.append(-(-(much - base) // _MANY))
    return Bound(max(bases), max(each))


def _ways_to_pay(demand: Demand, input_tokens: int, *, pays_images: bool) -> Iterator[tuple[Mapping[str, int], str]]:
    """Yield the units of the input, and the unit of the output beside its tokens, of each way to pay for them.

    Input that is only referred to may be audio. All of it may be images where these have rates: what they have of it is
    not told.
    """
    units = {**demand.units, "input_tokens": input_tokens}
    inputs: list[Mapping[str, int]] = [units]
    if demand.refers:
        inputs.append({**units, "input_audio_tokens": input_tokens})
    if pays_images:
        inputs.append({**units, "input_image_tokens": input_tokens - units.get("input_audio_tokens", 0)})
    outputs = ["", *(["output_audio_tokens"] * demand.speaks), *(["output_image_tokens"] * pays_images)]
    yield from itertools.product(inputs, outputs)


def _input_of(reading: Reading, demand: Demand, upstream: str) -> int:
    if not demand.refers:
        return demand.input_tokens
    windows = [listed_prices.context_window(model, upstream) or CONTEXT_WINDOW for model in reading.models]
    return max([demand.input_tokens, *(windows or [CONTEXT_WINDOW])])


def _is_written_out(row: TokenRow, opening: Opening) -> bool:
    """Tell whether a list writes out the endpoint of a request, up to its first id."""
    asked, fixed = endpoints.call(opening.method, opening.path), opening.endpoint.partition("/{id}")[0]
    lists = [owned.policy.endpoints or () for owned in row.policies]
    return asked is not None and any(endpoints.opens(entry, asked, fixed) for entries in lists for entry in entries)
