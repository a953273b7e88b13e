"""`llm-proxy price`: what `/manage/prices` does, on the store directly."""

from collections.abc import Callable, Sequence
from typing import Any

import click

from manage_api import bodies, schemas
from manage_api.cli import asking, completion, ids, options, reading, table
from store.ledger.own_prices import RATES
from store.management.prices import OwnPrices, PriceRecord
from store.money import decimal_text
from store.store import Store

_COLUMNS = {"model": "model", "project": "project"}


def _option_of(rate: str) -> str:
    return f"--{rate.replace('_', '-')}"


def _rates(command: Callable[..., None]) -> Callable[..., None]:
    made = []
    for rate in RATES:
        unit = rate.removeprefix("per_").replace("_", " ") if rate.startswith("per_") else "million tokens"
        made.append(click.option(_option_of(rate), rate, metavar="USD", help=f"US dollars for one {unit}."))
    return options.with_options(command, made)


_OF = (
    click.option("--model", metavar="NAME", help="The model; * stands for any characters."),
    click.option(
        "--project", metavar="PROJECT", shell_complete=completion.projects, help="The project, by name or id."
    ),
)


def _of(command: Callable[..., None]) -> Callable[..., None]:
    return options.with_options(command, _OF)


@click.group(name="price")
def price_command() -> None:
    """List, set and delete own prices, which replace the built-in ones."""


@price_command.command(name="list")
@options.as_json
def list_command(*, as_json: bool) -> None:
    """List the own prices: US dollars for a million tokens, or for one piece."""

    def act(store: Store) -> str:
        records = OwnPrices(store).list()
        if as_json:
            return table.as_json([schemas.price(record) for record in records])
        used = {rate: rate.replace("_", " ") for rate in RATES if any(rate in record.rates for record in records)}
        columns = {**_COLUMNS, **used, "id": "id"}
        return table.write(columns, map(_row, records), width=table.terminal_width(), dispensable=("id",))

    reading.on_store(act)


@price_command.command(name="set")
@_of
@_rates
@options.as_json
def set_command(*, model: str | None, project: str | None, as_json: bool, **rates: str | None) -> None:
    """Set the price of a model, of a project, or both, in place of an earlier one."""
    given = {name: rate for name, rate in rates.items() if rate is not None}
    if model is None and project is None:
        raise click.UsageError("Name what the price is for: --model, --project or both.")
    if not given:
        raise click.UsageError(f"Name a rate at least: {', '.join(map(_option_of, RATES))}.")

    def act(store: Store) -> str:
        body: dict[str, Any] = {"rates": given}
        if model is not None:
            body["model"] = model
        if project is not None:
            body["project_id"] = ids.project(store, project, "'--project'")
        bodies.check("PriceRequest", body)
        record = bodies.set_price(OwnPrices(store), body)
        if as_json:
            return table.as_json(schemas.price(record))
        return table.fields({name: value for name, value in _row(record).items() if value is not None})

    reading.on_store(act)


@price_command.command(name="delete")
@click.argument("price_id", metavar="[ID]", required=False)
@_of
@options.yes
@options.as_json
def delete_command(price_id: str | None, *, model: str | None, project: str | None, yes: bool, as_json: bool) -> None:
    """Delete an own price, by its ID, or by the model and the project that it was set for."""
    if (price_id is None) == (model is None and project is None):
        raise click.UsageError("Name the price: by its ID, or by --model, --project or both.")

    def act(store: Store) -> str:
        prices = OwnPrices(store)
        project_id = None if project is None else ids.project(store, project, "'--project'")
        record = _found(prices.list(), price_id, model, project_id)
        asking.confirm(f"The own price of {_called(record)} is deleted; other prices hold from now on.", yes=yes)
        prices.delete(record.id)
        return table.as_json(schemas.price(record)) if as_json else f"Deleted: the own price of {_called(record)}.\n"

    reading.on_store(act)


def _found(
    records: Sequence[PriceRecord], price_id: str | None, model: str | None, project_id: str | None
) -> PriceRecord:
    for record in records:
        if record.id == price_id or (price_id is None and (record.model, record.project_id) == (model, project_id)):
            return record
    raise click.UsageError("There is no such price; `price list` lists them.")


def _called(record: PriceRecord) -> str:
    model = "all models" if record.model is None else table.printable(record.model)
    project = "all projects" if record.project_id is None else table.printable(record.project_name or record.project_id)
    return f"{model}, {project} ({record.id})"


def _row(record: PriceRecord) -> dict[str, object]:
    return {
        "model": record.model or "any",
        "project": record.project_name or record.project_id or "any",
        **dict.fromkeys(RATES),
        **{name: table.NumberText(decimal_text(rate)) for name, rate in record.rates.items()},
        "id": record.id,
    }
