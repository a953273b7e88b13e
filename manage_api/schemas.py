"""The JSON objects of the API: each function returns one schema of openapi.yaml, made of the store's records."""

from collections.abc import Mapping, Sequence

from store.clock import to_date, to_rfc3339, to_rfc3339_exact
from store.ledger.usage import COLUMNS
from store.management.admins import AdminRecord
from store.management.prices import PriceRecord
from store.management.projects import ProjectRecord
from store.management.tokens import RevokedTokens, TokenRecord
from store.money import decimal_text, usd
from store.reports.audit_log import AuditRecord
from store.reports.request_list import RequestRecord
from store.reports.usage_query import Dimension, keys
from store.reports.usage_report import UsageGroup, UsageReport
from store.reports.usage_totals import UsageSums

type JSONObject = dict[str, object]

_NAME_FIELDS: Mapping[str, str] = {"project_id": "project_name", "token_id": "token_name"}
"""The ids that a report groups by, each with the field that follows it."""

SUMS_FIELDS = (
    *("requests", "refused", "in_flight", "observed", "estimated", "unknown", "unpriced", "minimum"),
    *COLUMNS,
    *("request_bytes", "response_bytes", "cost_usd", "told_cost_usd", "cost_where_told_usd"),
)
"""The fields of the schema `UsageSums`."""


def project(record: ProjectRecord) -> JSONObject:
    """Return the schema `Project`."""
    return {
        "id": record.id,
        "name": record.name,
        "is_active": record.is_active,
        "created_at": to_rfc3339(record.created_at),
        "updated_at": to_rfc3339(record.updated_at),
        "api_key_updated_at": _time(record.api_key_updated_at),
        "rate_limits": record.rate_limits,
        "budgets": record.budgets,
        "max_parallel_requests": record.max_parallel_requests,
        **record.policies,
        "limits": [each.shown() for each in record.limits],
    }


def token(record: TokenRecord) -> JSONObject:
    """Return the schema `Token`, with the token's value."""
    return {
        "id": record.id,
        "name": record.name,
        "token": record.value,
        "previous_expires_at": _time(record.previous_expires_at),
        "project_id": record.project_id,
        "project_name": record.project_name,
        "expires_at": to_rfc3339(record.expires_at),
        "is_active": record.is_active,
        "request_count": record.request_count,
        "max_requests": record.max_requests,
        "rate_limits": record.rate_limits,
        "budgets": record.budgets,
        "max_parallel_requests": record.max_parallel_requests,
        **record.policies,
        "created_at": to_rfc3339(record.created_at),
        "last_used_at": _time(record.last_used_at),
        "limits": [each.shown() for each in record.limits],
    }


def revoked(tokens: RevokedTokens) -> JSONObject:
    """Return the body of a bulk revoke. Tokens whose revoke the store did not confirm count as failed."""
    return {
        "revoked_count": tokens.revoked,
        "already_revoked_count": tokens.already_revoked,
        "total_tokens": tokens.total,
        "failed_count": tokens.failed,
    }


def group_fields(by: Sequence[Dimension]) -> Sequence[str]:
    """Return the fields that identify a group, in the order of `by`."""
    columns = (column for dimension in by for column in keys([dimension]))
    fields = ((column, _NAME_FIELDS.get(column)) for column in columns)
    return list(dict.fromkeys(name for pair in fields for name in pair if name))


def usage_report(report: UsageReport, by: Sequence[Dimension]) -> JSONObject:
    """Return the schema `UsageReport`."""
    return {
        "from": None if report.start is None else to_rfc3339_exact(report.start),
        "to": None if report.end is None else to_rfc3339_exact(report.end),
        "timezone": report.timezone,
        "group_by": list(by),
        "totals": usage_sums(report.totals),
        "groups": [usage_group(group, by) for group in report.groups],
    }


def usage_sums(sums: UsageSums) -> JSONObject:
    """Return the schema `UsageSums`. Where no request's usage is known, tokens are None, not 0."""
    cost, is_known = sums.cost_usd, sums.observed or sums.estimated or not sums.requests
    fields = {
        **sums._asdict(),
        "unknown": sums.unknown,
        "cost_usd": None if cost is None else decimal_text(cost),
        "told_cost_usd": decimal_text(sums.told_cost_usd),
        "cost_where_told_usd": decimal_text(sums.cost_where_told_usd),
    }
    return {name: fields[name] if is_known or name not in COLUMNS else None for name in SUMS_FIELDS}


def usage_group(group: UsageGroup, by: Sequence[Dimension]) -> JSONObject:
    """Return the schema `UsageGroup`: the fields that identify the group, and the sums."""
    values = {
        "month": None if group.month is None else to_date(group.month),
        "week": None if group.week is None else to_date(group.week),
        "day": None if group.day is None else to_date(group.day),
        "hour": None if group.hour is None else to_rfc3339(group.hour),
        "project_id": group.project_id,
        "project_name": group.project_name,
        "token_id": group.token_id,
        "token_name": group.token_name,
        "model": group.model,
        "endpoint": group.endpoint,
    }
    return {**{name: values[name] for name in group_fields(by)}, **usage_sums(group.sums)}


def ledger_row(record: RequestRecord) -> JSONObject:
    """Return the schema `LedgerRow`."""
    return {
        "id": record.id,
        "upstream_request_id": record.upstream_request_id,
        "session_id": record.session_id,
        "started_at": to_rfc3339_exact(record.started_at),
        "project_id": record.project_id,
        "project_name": record.project_name,
        "token_id": record.token_id,
        "token_name": record.token_name,
        "client": record.client,
        "method": record.method,
        "path": record.path,
        "endpoint": record.endpoint,
        "model_asked": record.model_asked,
        "model": record.model,
        "status": record.status,
        "code": record.code,
        "repeats": record.repeats,
        "streamed": record.streamed,
        "duration_ms": record.duration_ms,
        "time_to_first_byte_ms": record.first_byte_ms,
        "request_bytes": record.request_bytes,
        "response_bytes": record.response_bytes,
        **{name: getattr(record, name) for name in COLUMNS},
        "cost_usd": _usd(record.cost),
        "cost_is_minimum": record.cost_is_minimum,
        "budget_usd": _usd(record.budget),
        "told_cost_usd": _usd(record.told_cost),
        "price": record.price_used,
        "usage_source": record.usage_source,
    }


def price(record: PriceRecord) -> JSONObject:
    """Return the schema `Price`."""
    return {
        "id": record.id,
        "project_id": record.project_id,
        "project_name": record.project_name,
        "model": record.model,
        "rates": {name: decimal_text(rate) for name, rate in record.rates.items()},
        "updated_at": to_rfc3339(record.updated_at),
    }


def admin(record: AdminRecord) -> JSONObject:
    """Return the schema `Admin`, without the token."""
    return {
        "id": record.id,
        "name": record.name,
        "role": record.role,
        "is_active": record.is_active,
        "created_at": _time(record.created_at),
    }


def audit_row(record: AuditRecord) -> JSONObject:
    """Return the schema `AuditRow`."""
    return {
        "id": record.id,
        "changed_at": to_rfc3339_exact(record.changed_at),
        "actor": record.actor,
        "action": record.action,
        "object_id": record.object_id,
        "object_name": record.object_name,
        "project_id": record.project_id,
        "changes": record.changes,
        "ids": record.ids,
        "address": record.address,
        "request_id": record.request_id,
    }


def _usd(cost: int | None) -> str | None:
    return None if cost is None else decimal_text(usd(cost))


def _time(microseconds: int | None) -> str | None:
    return None if microseconds is None else to_rfc3339(microseconds)
