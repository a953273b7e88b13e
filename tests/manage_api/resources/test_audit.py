import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from store.management import audit


def page(client: FlaskClient, query: str = "") -> Any:
    answer = client.get(f"/manage/audit{query}")
    assert answer.status_code == 200, answer.text
    return answer.json


def test_a_change_names_the_administrator_the_address_and_the_request(client: FlaskClient, project_id: str) -> None:
    made = client.post("/manage/admins", json={"name": "ops", "role": "admin"}).get_json()
    answer = client.patch(
        f"/manage/projects/{project_id}",
        json={"name": "Two"},
        environ_overrides={"HTTP_AUTHORIZATION": f"Bearer {made['token']}", "REMOTE_ADDR": "192.0.2.7"},
    )
    (row,) = page(client, "?limit=1")["data"]
    assert row == {
        "id": row["id"],
        "changed_at": row["changed_at"],
        "actor": "ops",
        "action": "project.update",
        "object_id": project_id,
        "object_name": "Two",
        "project_id": project_id,
        "changes": {"name": {"before": "One", "after": "Two"}},
        "ids": [],
        "address": "192.0.2.7",
        "request_id": answer.headers["X-LLM-Proxy-Request-Id"],
    }
    assert [each["actor"] for each in page(client)["data"]] == ["ops", "root", "root"]


def test_the_thread_is_of_no_administrator_after_a_request(project_id: str) -> None:
    assert project_id
    assert audit._origin.get() == audit.UNKNOWN  # noqa: SLF001 - it has no reader but the rows


def test_pages_and_json_lines_are_those_of_requests(client: FlaskClient, token: dict[str, str]) -> None:
    first = page(client, "?limit=1")
    second = page(client, f"?limit=1&cursor={first['next_cursor']}")
    assert [each["data"][0]["action"] for each in (first, second)] == ["token.create", "project.create"]
    assert second["next_cursor"] is None
    answer = client.get(f"/manage/audit?format=jsonl&limit=1&objectId={token['id'].upper()}")
    assert (answer.mimetype, json.loads(answer.text)) == ("application/jsonl", first["data"][0])
    assert "X-LLM-Proxy-Next-Cursor" not in answer.headers
    assert client.get("/manage/audit?format=jsonl&limit=1").headers["X-LLM-Proxy-Next-Cursor"] == first["next_cursor"]


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("actor=root", 2),
        ("actor=ops", 0),
        ("action=token.create", 1),
        ("from=2020-01-01", 2),
        ("to=2020-01-01", 0),
        ("objectId=00000000-0000-0000-0000-000000000009", 0),
    ],
)
def test_each_filter_selects(client: FlaskClient, token: dict[str, str], query: str, number: int) -> None:
    assert len(page(client, f"?{query}")["data"]) == number
    assert len(page(client, f"?{query}&projectId={token['project_id']}")["data"]) == number


@pytest.mark.parametrize("query", ["action=token", "cursor=x", "limit=0", "objectId=x", "actor=", "actor=a&actor=b"])
def test_a_bad_query_is_refused(client: FlaskClient, query: str) -> None:
    assert client.get(f"/manage/audit?{query}").status_code == 400
