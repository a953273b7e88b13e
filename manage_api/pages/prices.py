"""`/prices`: own prices, the built-in ones to look them up, and models that have none."""

import uuid
from typing import Any

import flask
from werkzeug.wrappers import Response as BaseResponse

from manage_api import access_log, bodies
from manage_api.pages import forms
from store.errors import GatewayError, InvalidRequest, NotFound
from store.ledger import price_list
from store.ledger.own_prices import RATES
from store.management.prices import OwnPrices, PriceRecord
from store.management.projects import Projects
from store.money import decimal_text
from store.reports.overview import UNPRICED_DAYS, Overview
from store.store import Store

_MODEL = forms.Field(
    "model", "Model", "Its exact name, or one with * for any characters, such as ft:gpt-4o-*. Empty: all models."
)
_PROJECT = forms.Field("project_id", "Project", "")
_TOKENS = "US dollars for a million tokens. Empty: it costs nothing."
_LABELS = {
    "input": ("Input", _TOKENS),
    "cached_input": ("Cached input", "US dollars for a million tokens. Empty: as other input."),
    "output": ("Output", _TOKENS),
    "input_audio": ("Input of audio", "US dollars for a million tokens. Empty: as other input."),
    "output_audio": ("Output of audio", "US dollars for a million tokens. Empty: as other output."),
    "per_request": ("Request", "US dollars for each that succeeds."),
    "per_search": ("Web search", "US dollars for one."),
    "per_file_search": ("File search", "US dollars for one."),
    "per_image": ("Image", "US dollars for one."),
    "per_second": ("Second of audio or video", "US dollars for one."),
}
_RATES = tuple(forms.Field(rate, *_LABELS[rate]) for rate in RATES)


def blueprint(store: Store, overview: Overview) -> flask.Blueprint:
    """Make the pages of a store's prices."""
    pages = _Pages(store, overview)
    routes = flask.Blueprint("prices", __name__, url_prefix="/prices")
    routes.get("")(pages.index)
    routes.get("/built-in")(pages.built_in)
    routes.get("/set")(pages.edit)
    routes.post("/set")(pages.set)
    routes.get("/<uuid:price_id>/delete")(pages.confirm_delete)
    routes.post("/<uuid:price_id>/delete")(pages.delete)
    return routes


class _Pages:
    def __init__(self, store: Store, overview: Overview) -> None:
        self._prices = OwnPrices(store)
        self._projects = Projects(store)
        self._overview = overview

    def index(self) -> str:
        records = self._prices.list()
        return flask.render_template(
            "prices/index.html",
            prices=records,
            rates=[field for field in _RATES if any(field.name in record.rates for record in records)],
            unpriced=self._overview.unpriced(),
            days=UNPRICED_DAYS,
        )

    def built_in(self) -> str:
        search, provider = (flask.request.args.get(name, "").strip() for name in ("q", "provider"))
        return flask.render_template(
            "prices/built_in.html",
            search=search,
            provider=provider,
            providers=price_list.providers(),
            found=price_list.search(search, provider),
            names=(price_list.INPUT, price_list.CACHED_INPUT, price_list.OUTPUT),
        )

    def edit(self) -> str:
        """Show the form: empty, for a model and a project, or for an own price that is there."""
        values = {name: flask.request.args.get(name, "") for name in (_MODEL.name, _PROJECT.name)}
        present = next((each for each in self._prices.list() if _place(each) == values), None)
        rates = {name: decimal_text(rate) for name, rate in present.rates.items()} if present else {}
        return self._form({**values, **rates}, None)

    def set(self) -> BaseResponse | tuple[str, int]:
        form = flask.request.form
        try:
            rates = {name: form.get(name, "").strip() for name in RATES}
            body: dict[str, Any] = {"rates": {name: rate for name, rate in rates.items() if rate}}
            body |= {name: form[name].strip() for name in ("model", "project_id") if form.get(name, "").strip()}
            _require_place_and_rates(body)
            bodies.check("PriceRequest", body)
            record = bodies.set_price(self._prices, body)
        except (InvalidRequest, NotFound) as error:
            return self._form(form, error), error.status
        access_log.changed(price_id=record.id)
        return flask.redirect(flask.url_for(".index", done="price-set"), 303)

    def confirm_delete(self, price_id: uuid.UUID) -> str:
        found = next((each for each in self._prices.list() if each.id == str(price_id)), None)
        if found is None:
            raise NotFound("There is no such price.")
        return flask.render_template("prices/delete.html", price=found)

    def delete(self, price_id: uuid.UUID) -> BaseResponse:
        with access_log.changing(price_id=str(price_id)):
            self._prices.delete(str(price_id))
        return flask.redirect(flask.url_for(".index", done="deleted"), 303)

    def _form(self, values: forms.Texts, error: GatewayError | None) -> str:
        fields = (_MODEL, _PROJECT, *_RATES)
        return flask.render_template(
            "prices/form.html",
            values=values,
            message=error and forms.in_labels(error.message.replace("'rates.", "'"), fields),
            model=_MODEL,
            projects=self._projects.list(),
            rates=_RATES,
        )


def _place(record: PriceRecord) -> dict[str, str]:
    """Return the model and the project of a price as the form has them."""
    return {"model": record.model or "", "project_id": record.project_id or ""}


def _require_place_and_rates(body: dict[str, Any]) -> None:
    """Raise InvalidRequest in the words of the form, where those of the API are about the body."""
    if not body.keys() & {"model", "project_id"}:
        raise InvalidRequest("Name a model, or choose a project, or both.")
    if not body["rates"]:
        raise InvalidRequest("Write one price at least; 0 for what costs nothing.")
