import json
from typing import Any

import pytest
from flask.testing import FlaskClient

POLICIES: dict[str, Any] = {
    "allowed_models": ["gpt-4o-mini", "ft:gpt-4o:acme::1", "org/name with blank", "gpt-5*"],
    "allowed_endpoints": ["POST /v1/chat/completions", "* /v1/files*", "*"],
    "allowed_ips": ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::ffff:203.0.113.0/120"],
}


def test_policies_are_set_and_shown_as_they_were_written(
    client: FlaskClient, folder: str, good: dict[str, Any]
) -> None:
    answer = client.post(f"/manage/{folder}", json={**good, **POLICIES})
    made = answer.get_json()
    assert answer.status_code == 201
    assert {name: made[name] for name in POLICIES} == POLICIES
    listed = next(each for each in client.get(f"/manage/{folder}").get_json() if each["id"] == made["id"])
    assert {name: listed[name] for name in POLICIES} == POLICIES


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_changed_alone_and_removed(client: FlaskClient, path: str, name: str) -> None:
    client.patch(path, json=POLICIES)
    emptied = client.patch(path, json={name: []}).get_json()
    assert {each: emptied[each] for each in POLICIES} == POLICIES | {name: []}
    removed = client.patch(path, json={name: None}).get_json()
    assert {each: removed[each] for each in POLICIES} == POLICIES | {name: None}


def test_a_limit_is_changed_beside_policies(client: FlaskClient, path: str) -> None:
    client.patch(path, json=POLICIES)
    changed = client.patch(path, json={"max_parallel_requests": 3, "name": "Other"}).get_json()
    assert {each: changed[each] for each in POLICIES} == POLICIES
    assert changed["max_parallel_requests"] == 3


BAD = [
    ({"allowed_models": "gpt-4o"}, "The field 'allowed_models' must be an array or null, not a string."),
    ({"allowed_models": [1]}, "The field 'allowed_models[0]' must be a string, not an integer."),
    ({"allowed_models": ["a", ""]}, "The field 'allowed_models[1]' must not be empty."),
    ({"allowed_models": [" gpt-4o"]}, "without blanks around them"),
    ({"allowed_models": ["gpt\n4o"]}, "printable characters"),
    ({"allowed_models": ["m"] * 257}, "The field 'allowed_models' must have at most 256 values."),
    ({"allowed_model": ["m"]}, "did you mean 'allowed_models'?"),
    (
        {"allowed_endpoints": ["/v1/chat/completions"]},
        "The field 'allowed_endpoints[0]' must be a method (or '*') and a",
    ),
    ({"allowed_endpoints": ["*", "GET /v1/files?a=b"]}, "The field 'allowed_endpoints[1]' must not hold '%', '?'"),
    ({"allowed_endpoints": ["GET /v1/files/"]}, "without a trailing slash"),
    ({"allowed_ips": ["10.0.0.1/8"]}, "The field 'allowed_ips[0]' must be an address such as"),
    ({"allowed_ips": ["app.example"]}, "The field 'allowed_ips[0]' must be an address such as"),
    ({"allowed_ips": ["fe80::1%eth0"]}, "The field 'allowed_ips[0]' must be an address such as"),
    ({"allowed_ips": {"10.0.0.0/8": True}}, "The field 'allowed_ips' must be an array or null, not an object."),
]


@pytest.mark.parametrize(("body", "message"), BAD, ids=lambda part: json.dumps(part)[:60])
def test_bad_policies_are_refused_and_change_nothing(
    client: FlaskClient, folder: str, good: dict[str, Any], path: str, body: dict[str, Any], message: str
) -> None:
    client.patch(path, json=POLICIES)
    before = client.get(f"/manage/{folder}").json
    for answer in (client.patch(path, json=body), client.post(f"/manage/{folder}", json={**good, **body})):
        assert answer.status_code == 400
        assert message in answer.get_json()["message"]
    assert client.get(f"/manage/{folder}").json == before
