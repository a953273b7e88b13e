"""The most that a request may use, before it is sent: its tokens, and their cost at the dearest, at present prices."""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from store.admission.decision import BoundsOf, TokenRow
from store.errors import CostNotBounded, ModelNotPriced, TokenRefused
from store.ledger import listed_prices
from store.ledger.pricing import Pricing, charge_by
from store.ledger.quote import Quote
from store.ledger.usage import MAX_COST, Conditions, Consumption, Units
from store.limits.bound import NOTHING_USED, Bounds
from store.policies import endpoints
from store.request import Demand, Opening, Reading

CONTEXT_WINDOW = 1_000_000
"""Tokens that are taken for the context window of a model whose own is not known: that of the largest."""

_MANY = 1_000_000
"""Tokens of output from which the price of one is computed."""

_NOT_READ = Demand(output_tokens=None, refers=True)
"""The demand of a request of which not enough could be read: its input is the model's context window."""


class Bounding:
    """Bounds requests. For the writer thread."""

    def __init__(self, pricing: Pricing) -> None:
        self._pricing = pricing

    def bounds_of(self, now: int, prices: str = "") -> BoundsOf:
        """Return the function that bounds the requests of one batch, at a time.

        It reads the own prices where their `pricing.VERSION` is new; without that, once in any case.
        """
        return _OfBatch(self._pricing, now, prices).bounds


class _Cost(NamedTuple):
    """The most that a request costs, in COST_UNITs: `base` whatever its output is, and `each` for a token of output."""

    base: int
    each: int


_NOT_KNOWN = _Cost(1, 0)
"""Is reserved where an operator lets pass what has no price: it does not pass a budget that is spent."""


class _OfBatch:
    """Bounds the requests of one batch, most of which are for the same few models."""

    def __init__(self, pricing: Pricing, now: int, prices: str) -> None:
        self._pricing = pricing
        self._now = now
        self._prices = prices
        self._is_fresh = False
        self._of_text: dict[tuple[str, str, tuple[str, ...], Conditions], tuple[int, int]] = {}
        """The prices `Quote.of_text` of single models, by what these depend on; only those that there are."""

    def bounds(self, row: TokenRow, opening: Opening, has_budget: bool) -> Bounds | TokenRefused:
        """Return the most that a request may use, or the refusal of one that a budget cannot bound."""
        reading = opening.reading
        if reading is None or not reading.generates:
            return NOTHING_USED
        demand = reading.demand or _NOT_READ
        if has_budget:
            bounds = self._of_usual(row, opening, reading, demand)
            return bounds or self._within_budget(row, opening, reading, demand)
        return Bounds(_input_of(reading, demand, opening.upstream), 0, 0, demand.output_tokens, demand.choices)

    def _of_usual(self, row: TokenRow, opening: Opening, reading: Reading, demand: Demand) -> Bounds | None:
        """Return the bounds of a request of text alone, for one model; None for any other."""
        if demand.units or demand.refers or demand.speaks or demand.unbounded or reading.doubt:
            return None
        key = (row.project_id, opening.upstream, reading.models, demand.conditions)
        of_text = self._of_text.get(key)
        if of_text is None:
            quote = self._quote(row, opening, reading.models[0], demand) if len(reading.models) == 1 else None
            if quote is None or quote.of_text is None:
                return None
            of_text = self._of_text[key] = quote.of_text
        base, each = of_text[0] * demand.input_tokens, of_text[1]
        if base + each * _MANY > MAX_COST:
            return None
        return Bounds(demand.input_tokens, base, each, demand.output_tokens, demand.choices)

    def _within_budget(
        self, row: TokenRow, opening: Opening, reading: Reading, demand: Demand
    ) -> Bounds | TokenRefused:
        """Return the bounds of a request, whose cost is that of the dearest of the models that it names."""
        refusal = _refusal(row, opening, reading, demand)
        if refusal is not None:
            return refusal
        input_tokens = _input_of(reading, demand, opening.upstream)
        costs = []
        for model in reading.models:
            quote = self._quote(row, opening, model, demand)
            cost = None if quote is None else _cost_of(quote, model, demand, input_tokens)
            if cost is None:
                return ModelNotPriced(
                    f"There is a budget, and the model '{model}' has no price that covers this request. An operator "
                    "can set one: PUT /manage/prices."
                )
            costs.append(cost)
        base, each = _dearest(costs) if costs else _NOT_KNOWN
        return Bounds(input_tokens, base, each, demand.output_tokens, demand.choices)

    def _quote(self, row: TokenRow, opening: Opening, model: str, demand: Demand) -> Quote | None:
        if not self._is_fresh:
            self._pricing.refresh(self._prices)
            self._is_fresh = True
        return self._pricing.quote(row.project_id, opening.upstream, (model, model), demand.conditions, self._now)


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


def _dearest(costs: Iterable[_Cost]) -> _Cost:
    return _Cost(*map(max, zip(*costs, strict=True)))


def _cost_of(quote: Quote, model: str, demand: Demand, input_tokens: int) -> _Cost | None:
    """Return the most that a request to a model costs; None where its price does not cover it as a whole."""
    found = []
    for units, unit_of_output in _ways_to_pay(quote, demand, input_tokens):
        much = {"output_tokens": _MANY, **({unit_of_output: _MANY} if unit_of_output else {})}
        base = _cost(quote, model, {**units, "output_tokens": 0}, demand.conditions)
        most = _cost(quote, model, {**units, **much}, demand.conditions)
        if base is None or most is None:
            return None
        found.append(_Cost(base, -(-(most - base) // _MANY)))
    return _dearest(found)


def _cost(quote: Quote, model: str, units: Units, conditions: Conditions) -> int | None:
    charge = charge_by(quote, Consumption(model, units, conditions), model)
    return None if charge is None or charge.is_minimum else charge.cost


def _ways_to_pay(quote: Quote, demand: Demand, input_tokens: int) -> Iterator[tuple[Units, str]]:
    """Yield the units of the input, and the unit of the output beside its tokens, of each way to pay for them.

    Input that is only referred to may be audio. All of it may be images where these have rates: what they have of it is
    not told.
    """
    units = {**demand.units, "input_tokens": input_tokens}
    inputs: list[Units] = [units]
    if demand.refers:
        inputs.append({**units, "input_audio_tokens": input_tokens})
    if quote.pays_images:
        inputs.append({**units, "input_image_tokens": input_tokens - units.get("input_audio_tokens", 0)})
    outputs = ["", *(["output_audio_tokens"] * demand.speaks), *(["output_image_tokens"] * quote.pays_images)]
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
