"""`llm-proxy requests`: the newest rows of `/manage/requests`, straight from the store."""

from manage_api.answers import JSONObject
from manage_api.cli import ids, table
from manage_api.requests import as_json_lines
from store.bootstrap import Store
from store.clock import to_rfc3339
from store.money import usd
from store.request_list import OPEN, RequestFilter, RequestList, RequestRecord

FORMATS = ("table", "jsonl")

_COLUMNS = {
    "started": "started",
    "status": "status",
    "duration_ms": "ms",
    "endpoint": "endpoint",
    "model": "model",
    "input_tokens": "input",
    "output_tokens": "output",
    "cost": "cost (USD)",
    "usage": "usage",
    "token_id": "token",
    "id": "request",
}


def read(store: Store, about: RequestFilter, limit: int, form: str) -> str:
    """Return the newest requests as one of FORMATS. Raises click.BadParameter, StoreUnavailable."""
    records = RequestList(store).page(ids.known(store, about), limit=limit).requests
    if form == "jsonl":
        return as_json_lines(records)
    return table.write(_COLUMNS, [_row(record) for record in records])


def _row(record: RequestRecord) -> JSONObject:
    return {
        "started": to_rfc3339(record.started_at),
        "status": record.status,
        "duration_ms": record.duration_ms,
        "endpoint": record.endpoint,
        "model": record.model or record.model_asked,
        "input_tokens": record.input_tokens,
        "output_tokens": record.output_tokens,
        "cost": None if record.cost is None else usd(record.cost),
        "usage": record.usage_source or OPEN,
        "token_id": record.token_id,
        "id": record.id,
    }
