import json
from typing import Any

import pytest
from flask.testing import FlaskClient

UNKNOWN = "3f2b8a9e-6c1d-4e57-9a40-0d9b7c5f1e23"


def put(client: FlaskClient, body: object) -> Any:
    answer = client.put("/manage/prices", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json


def test_there_are_no_prices_at_first(client: FlaskClient) -> None:
    answer = client.get("/manage/prices")
    assert (answer.status_code, answer.json) == (200, [])


def test_a_price_is_set_replaced_and_deleted(client: FlaskClient, project_id: str) -> None:
    price = put(client, {"project_id": project_id.upper(), "model": "gpt-4o", "rates": {"input": "2.50", "output": 10}})
    assert price == {
        "id": price["id"],
        "project_id": project_id,
        "project_name": "One",
        "model": "gpt-4o",
        "rates": {"input": "2.5", "output": "10"},
        "updated_at": price["updated_at"],
    }
    again = put(client, {"project_id": project_id, "model": "gpt-4o", "rates": {"input": 0.1}})
    assert (again["id"], again["rates"]) == (price["id"], {"input": "0.1"})
    general = put(client, {"model": "gpt-4o", "rates": {"cached_input": "0"}})
    assert (general["project_id"], general["project_name"], general["rates"]) == (None, None, {"cached_input": "0"})
    assert client.get("/manage/prices").json == [general, again]
    path = f"/manage/prices/{price['id']}"
    assert [client.delete(path).status_code for _ in range(2)] == [204, 404]
    assert client.get("/manage/prices").json == [general]


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        ("0", "0"),
        ("0.000001", "0.000001"),
        ("999999.999999", "999999.999999"),
        ('"0.100000"', "0.1"),
        ('"999999"', "999999"),
        ("1e-7", "0"),
        ("1e2", "100"),
        ("0.15", "0.15"),
        ("0.1234565", "0.123456"),
        ("-0.0", "0"),
    ],
)
def test_rates_are_exact_decimals(client: FlaskClient, rate: str, text: str) -> None:
    body = f'{{"model": "m", "rates": {{"input": {rate}}}}}'
    answer = client.put("/manage/prices", data=body, content_type="application/json")
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    assert answer.json["rates"] == {"input": text}


@pytest.mark.parametrize(
    "rate",
    [
        "-1",
        "1000000",
        "999999.9999995",
        "1e400",
        "true",
        "null",
        '""',
        '"1e3"',
        '"-1"',
        '"1."',
        '".5"',
        '"01"',
        '"1\\n"',
        '"0.0000001"',
        '"1000000"',
        '" 1"',
        '"\\u0661"',
        '"NaN"',
        "[]",
        "{}",
    ],
)
def test_a_bad_rate_is_refused(client: FlaskClient, rate: str) -> None:
    body = f'{{"model": "m", "rates": {{"input": {rate}}}}}'
    answer = client.put("/manage/prices", data=body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["message"].startswith("The field 'rates.input' must be ")
    assert client.get("/manage/prices").json == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"rates": {"input": 1}}, "The body must have at least one of the fields 'project_id', 'model'."),
        ({"model": "m"}, "The body lacks the required field 'rates'."),
        ({"model": "m", "rates": {}}, "The field 'rates' must have at least 1 of the fields 'input', 'cached_input'"),
        ({"model": "m", "rates": {"cached": 1}}, "The field 'rates' has an unknown field: 'cached' (did you mean"),
        ({"model": "m", "rates": {"input": 1, "x": 1}}, "'x'; known fields: input, cached_input, output, input_audio"),
        ({"model": "m", "rates": []}, "The field 'rates' must be an object, not an array."),
        ({"model": "", "rates": {"input": 1}}, "The field 'model' must not be empty."),
        ({"model": "\0", "rates": {"input": 1}}, "The field 'model' must not have a NUL in it."),
        ({"model": None, "rates": {"input": 1}}, "The field 'model' must be a string, not null."),
        ({"project_id": "x", "rates": {"input": 1}}, "The field 'project_id' must be a UUID"),
    ],
)
def test_a_bad_price_is_refused(client: FlaskClient, body: object, message: str) -> None:
    answer = client.put("/manage/prices", data=json.dumps(body), content_type="application/json")
    assert answer.status_code == 400
    assert answer.json is not None
    assert message in answer.json["message"]


def test_a_price_for_an_unknown_project_is_not_found(client: FlaskClient) -> None:
    answer = client.put("/manage/prices", json={"project_id": UNKNOWN, "rates": {"input": 1}})
    assert answer.status_code == 404


@pytest.mark.parametrize("price_id", [UNKNOWN, "no-uuid"])
def test_an_unknown_price_is_not_found(client: FlaskClient, price_id: str) -> None:
    assert client.delete(f"/manage/prices/{price_id}").status_code == 404
