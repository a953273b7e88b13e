"""`/manage/prices`: the operator's own prices."""

import uuid

import flask

from manage_api import access_log, bodies, responses, schemas
from manage_api.schemas import JSONObject
from store.management.prices import OwnPrices
from store.store import Store


def blueprint(store: Store) -> flask.Blueprint:
    """Make the resource of a store."""
    routes = flask.Blueprint("prices", __name__, url_prefix="/manage/prices")
    prices = OwnPrices(store)

    @routes.get("")
    def list_prices() -> list[JSONObject]:
        return [schemas.price(record) for record in prices.list()]

    @routes.put("")
    def set_price() -> JSONObject:
        record = bodies.set_price(prices, flask.request.get_json())
        access_log.changed(price_id=record.id)
        return schemas.price(record)

    @routes.delete("/<uuid:price_id>")
    def delete_price(price_id: uuid.UUID) -> flask.Response:
        with access_log.changing(price_id=str(price_id)):
            prices.delete(str(price_id))
        return responses.no_content()

    return routes
