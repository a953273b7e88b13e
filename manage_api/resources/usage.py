"""`/manage/usage`: usage and cost, as JSON or CSV."""

import flask

from manage_api import export, schemas
from manage_api.query import identifier, moment, parameter, timezone
from manage_api.schemas import JSONObject
from store.management.tokens import Tokens
from store.reports.usage_query import Dimension, UsageFilter
from store.reports.usage_report import UsageReports
from store.store import Store


def blueprint(store: Store) -> flask.Blueprint:
    """Make the resource of a store."""
    routes = flask.Blueprint("usage", __name__, url_prefix="/manage/usage")
    reports = UsageReports(store)
    tokens = Tokens(store)

    @routes.get("")
    def report_usage() -> JSONObject | flask.Response:
        group_by, form, token_id = parameter("groupBy"), parameter("format"), identifier("tokenId")
        zone = timezone("timezone")
        by = [Dimension(name) for name in group_by.split(",")] if group_by else []
        about = UsageFilter(
            start=moment("from", zone),
            end=moment("to", zone),
            project_id=identifier("projectId"),
            token_id=token_id and tokens.public_id(token_id),
            model=parameter("model"),
            endpoint=parameter("endpoint"),
        )
        report = reports.report(by, about, zone)
        if form is not None and form in export.CSV_ENCODINGS:
            return flask.Response(export.usage_as_csv(report, by, form), mimetype="text/csv")
        return schemas.usage_report(report, by)

    return routes
