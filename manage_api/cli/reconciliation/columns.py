"""The numbers that can be compared, and the columns of an export that tell them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from store.ledger.usage import COLUMNS

COST = "cost_usd"

NUMBERS = ("requests", *COLUMNS, COST)
"""The numbers that the ledger has, under the names of its reports."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of an export, by their names in its header.

    `model` is None where days are compared, and not their models. `numbers` has the columns of each number that is
    compared; several columns are added up.
    """

    day: str
    model: str | None
    numbers: Mapping[str, Sequence[str]]


def option_of(number: str) -> str:
    """Return the option that names the columns of a number: `cached-input` for `cached_input_tokens`."""
    return number.removesuffix("_usd").removesuffix("_tokens").replace("_", "-")
