"""`/manage/requests`: single requests, admitted and refused, as JSON or JSON lines."""

import flask

from manage_api import export, schemas
from manage_api.query import identifier, moment, number, parameter
from manage_api.schemas import JSONObject
from store.management.tokens import Tokens
from store.reports.request_list import DEFAULT_LIMIT, Cursor, RequestFilter, RequestList
from store.store import Store

NEXT_CURSOR = "X-LLM-Proxy-Next-Cursor"


def blueprint(store: Store) -> flask.Blueprint:
    """Make the resource of a store."""
    routes = flask.Blueprint("requests", __name__, url_prefix="/manage/requests")
    requests = RequestList(store)
    tokens = Tokens(store)

    @routes.get("")
    def list_requests() -> JSONObject | flask.Response:
        form, cursor, token_id = parameter("format"), parameter("cursor"), identifier("tokenId")
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
        after = Cursor.parse(cursor) if cursor else None
        page = requests.page(about, limit=number("limit") or DEFAULT_LIMIT, after=after)
        next_cursor = page.next_cursor and str(page.next_cursor)
        if form == "jsonl":
            headers = {NEXT_CURSOR: next_cursor} if next_cursor else {}
            lines = export.requests_as_json_lines(page.requests)
            return flask.Response(lines, mimetype="application/jsonl", headers=headers)
        return {"data": [schemas.ledger_row(record) for record in page.requests], "next_cursor": next_cursor}

    @routes.get("/<request_id>")
    def get_request(request_id: str) -> JSONObject:
        return schemas.ledger_row(requests.get(request_id))

    return routes
