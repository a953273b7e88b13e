"""A body is refused without HTTP as it is with it, in the same words."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from manage_api import bodies
from store.errors import InvalidRequest

PROJECT_ID = "123e4567-e89b-12d3-a456-426614174000"
REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    ("ProjectRequest", "projects", {"name": "\u200b", "api_key": "sk with blanks"}),
    ("ProjectRequest", "projects", {"name": "x" * 256}),
    ("ProjectRequest", "projects", {"name": "x", "api_key": "k", "rate_limits": [{"requests": 0, "per": "year"}]}),
    ("TokenRequest", "tokens", {"project_id": "one", "name": "a\nb", "max_requests": 2**63}),
    ("TokenRequest", "tokens", {"project_id": PROJECT_ID, "expires_at": "2027-01-01", "expires_in_days": 1}),
    ("TokenRequest", "tokens", {"project_id": PROJECT_ID, "max_parallel_requests": 0, "max_request": 1}),
    ("PriceRequest", "prices", {"rates": {"input": "1.1234567", "per_page": "1"}}),
    ("PriceRequest", "prices", {"model": "a\0b", "rates": {}}),
]


@pytest.mark.parametrize(("schema", "path", "body"), REFUSED)
def test_the_words_are_those_of_the_api(client: FlaskClient, schema: str, path: str, body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        bodies.check(schema, body)
    response = client.open(f"/manage/{path}", method="PUT" if path == "prices" else "POST", json=body)
    assert (response.status_code, response.get_json()["message"]) == (400, refused.value.message)


def test_a_good_body_passes() -> None:
    bodies.check("TokenUpdateRequest", {"expires_at": None, "budgets": [{"usd": "1", "per": "total"}], "name": None})
    bodies.check("TokenRotateRequest", {"grace_seconds": 2592000})
