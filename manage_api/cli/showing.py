"""Shows projects and tokens: JSON as the API has it, or fields, limits with what is used of them, and usage."""

from collections.abc import Mapping, Sequence

from manage_api import schemas
from manage_api.cli import ids, table
from manage_api.cli.usage import shown_sums
from manage_api.schemas import JSONObject
from store.clock import to_rfc3339
from store.limits.standing import LimitStanding
from store.management.projects import ProjectRecord
from store.management.tokens import TokenRecord
from store.policies.lists import Policies
from store.reports.usage_totals import UsageSums

_POLICIES: Mapping[str, str] = {
    "allowed_models": "models",
    "allowed_endpoints": "endpoints",
    "allowed_ips": "addresses",
}

_LIMITS: Mapping[str, str] = {
    "kind": "limit",
    "limit": "most",
    "used": "used",
    "reserved": "reserved",
    "remaining": "remaining",
    "resets_at": "resets (UTC)",
}


def token_object(record: TokenRecord, *, with_value: bool = False) -> JSONObject:
    """Return the schema `Token`, without the token's value where that is not asked for."""
    shown = schemas.token(record)
    return shown if with_value else {name: value for name, value in shown.items() if name != "token"}


def with_usage(shown: JSONObject, sums: UsageSums | None) -> JSONObject:
    """Return the object of a project or a token with its usage, if that was read."""
    return shown if sums is None else {**shown, "usage": schemas.usage_sums(sums)}


def project(record: ProjectRecord, sums: UsageSums | None = None) -> str:
    """Write a project, and its usage if that was read."""
    fields = {
        "id": record.id,
        "name": record.name,
        "status": ids.status_of(record),
        "created (UTC)": table.moment(record.created_at),
        "changed (UTC)": table.moment(record.updated_at),
        "key set (UTC)": table.moment(record.api_key_updated_at),
        **_policies(record.policies),
    }
    return table.fields(fields) + _limits(record.limits) + _usage(sums)


def token(record: TokenRecord, sums: UsageSums | None = None, *, with_value: bool = False) -> str:
    """Write a token, with its value where that is asked for, and its usage if that was read."""
    fields = {
        "id": record.id,
        "name": record.name,
        **({"token": record.value} if with_value else {}),
        **({"value before ends (UTC)": table.moment(record.previous_expires_at)} if record.previous_expires_at else {}),
        "project": f"{record.project_name} ({record.project_id})",
        "status": ids.status_of(record),
        "expires (UTC)": table.moment(record.expires_at),
        "requests": requests_of(record),
        "last used (UTC)": table.moment(record.last_used_at),
        "created (UTC)": table.moment(record.created_at),
        **_policies(record.policies),
    }
    return table.fields(fields) + _limits(record.limits) + _usage(sums)


def requests_of(record: TokenRecord) -> str:
    """Return the requests of a token, and those that it may make where there is a limit."""
    made = f"{record.request_count:,}"
    return f"{made} of {record.max_requests:,}" if record.max_requests else made


def limits_in_words(limits: Sequence[LimitStanding]) -> str | None:
    """Return limits in a line: `60 requests/minute, 100 usd/month`."""
    shown = [(each.shown()["limit"], _kind(each)) for each in limits]
    return ", ".join(f"{_grouped(number)} {kind}" for number, kind in shown) or None


def _kind(limit: LimitStanding) -> str:
    return limit.kind if limit.per is None else f"{limit.kind}/{limit.per}"


def _policies(policies: Policies) -> Mapping[str, object]:
    """Return the lists that are set."""
    return {
        title: ", ".join(entries) or "none"  # type: ignore[arg-type]
        for name, title in _POLICIES.items()
        if (entries := policies.get(name)) is not None
    }


def _limits(limits: Sequence[LimitStanding]) -> str:
    if not limits:
        return ""
    rows = [_standing(each) for each in limits]
    return "\n" + table.write(_LIMITS, rows, width=table.terminal_width())


def _standing(limit: LimitStanding) -> Mapping[str, object]:
    numbers = {name: table.NumberText(_grouped(value)) for name, value in limit.shown().items() if name in _LIMITS}
    resets = None if limit.resets_at is None else to_rfc3339(limit.resets_at)[:-1].replace("T", " ")
    return {**numbers, "kind": _kind(limit), "resets_at": resets}


def _grouped(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _usage(sums: UsageSums | None) -> str:
    return "" if sums is None else "\nUsage since the ledger began:\n" + table.fields(shown_sums(sums))
