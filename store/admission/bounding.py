"""The most that a request may use, before it is sent: its tokens, and their cost at the dearest, at present prices."""

import itertools
from collections.abc import Iterator, Sequence

from store.admission.decision import BoundsOf, TokenRow
from store.errors import CostNotBounded, ModelNotPriced, TokenRefused
from store.ledger import listed_prices
from store.ledger.pricing import Pricing, charge_by
from store.ledger.quote import Quote
from store.ledger.usage import Conditions, Consumption, Units
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


class Bounding:
    """Bounds requests. For the writer thread."""

    def __init__(self, pricing: Pricing) -> None:
        self._pricing = pricing

    def bounds_of(self, now: int, prices: str = "") -> BoundsOf:
        """Return the function that bounds the requests of one batch, at a time.

        It reads the own prices where their `pricing.VERSION` is new; without that, once in any case.
        """
        is_fresh = False

        def bounds(row: TokenRow, opening: Opening, has_budget: bool) -> Bounds | TokenRefused:
            nonlocal is_fresh
            reading = opening.reading
            if reading is None or not reading.generates:
                return NOTHING_USED
            demand = reading.demand or _NOT_READ
            input_tokens = _input_of(reading, demand, opening.upstream)
            usd = _NO_MONEY
            if has_budget:
                if not is_fresh:
                    self._pricing.refresh(prices)
                    is_fresh = True
                found = _refusal(row, opening, reading, demand) or self._usd(row, opening, reading, input_tokens, now)
                if isinstance(found, TokenRefused):
                    return found
                usd = found
            return Bounds(Bound(input_tokens, 1), usd, demand.output_tokens, demand.choices)

        return bounds

    def _usd(
        self, row: TokenRow, opening: Opening, reading: Reading, input_tokens: int, now: int
    ) -> Bound | TokenRefused:
        """Return the most that a request costs, by the dearest of the models that it names."""
        demand, found = reading.demand or _NOT_READ, []
        for model in reading.models:
            quote = self._pricing.quote(row.project_id, opening.upstream, (model, model), demand.conditions, now)
            bound = None if quote is None else _usd_of(quote, model, demand, input_tokens)
            if bound is None:
                return ModelNotPriced(
                    f"There is a budget, and the model '{model}' has no price that covers this request. An operator "
                    "can set one: PUT /manage/prices."
                )
            found.append(bound)
        return _dearest(found) if found else _NOT_KNOWN


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


def _dearest(bounds: Sequence[Bound]) -> Bound:
    if len(bounds) == 1:
        return bounds[0]
    return Bound(max(bound.base for bound in bounds), max(bound.each for bound in bounds))


def _usd_of(quote: Quote, model: str, demand: Demand, input_tokens: int) -> Bound | None:
    """Return the most that a request to a model costs; None where its price does not cover it as a whole."""
    if not (demand.units or demand.refers or demand.speaks):
        of_text = quote.of_text(input_tokens, _MANY)
        if of_text is not None:
            return Bound(*of_text)
    found = _NO_MONEY
    for units, unit_of_output in _ways_to_pay(quote, demand, input_tokens):
        much = {"output_tokens": _MANY, **({unit_of_output: _MANY} if unit_of_output else {})}
        base = _cost(quote, model, {**units, "output_tokens": 0}, demand.conditions)
        most = _cost(quote, model, {**units, **much}, demand.conditions)
        if base is None or most is None:
            return None
        found = Bound(max(found.base, base), max(found.each, -(-(most - base) // _MANY)))
    return found


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
