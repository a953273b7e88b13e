"""`/manage/requests`: single requests, admitted and refused, as JSON or JSON lines."""

import flask

from manage_api import responses, schemas
from manage_api.query import cursor, identifier, limit, moment, number, parameter
from manage_api.schemas import JSONObject
from store.management.tokens import Tokens
from store.reports.request_list import RequestFilter, RequestList
from store.store import Store


def blueprint(store: Store) -> flask.Blueprint:
    """Make the resource of a store."""
    routes = flask.Blueprint("requests", __name__, url_prefix="/manage/requests")
    requests = RequestList(store)
    tokens = Tokens(store)

    @routes.get("")
    def list_requests() -> JSONObject | flask.Response:
        token_id = identifier("tokenId")
        about = RequestFilter(
            start=moment("from"),
            end=moment("to"),
            project_id=identifier("projectId"),
            token_id=token_id and tokens.public_id(token_id),
            model=parameter("model"),
            endpoint=parameter("endpoint"),
            status=number("status"),
            source=parameter("usageSource"),
            code=parameter("code"),
        )
        return responses.page(requests.page(about, limit=limit(), after=cursor()), schemas.ledger_row)

    @routes.get("/<request_id>")
    def get_request(request_id: str) -> JSONObject:
        return schemas.ledger_row(requests.get(request_id))

    return routes
