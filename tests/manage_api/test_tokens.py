import uuid
from datetime import UTC, datetime, timedelta

import pytest
from flask.testing import FlaskClient
from support.ledger import without_usage

from store.bootstrap import Store
from store.models import Token

UNKNOWN = "3f2b8a9e-6c1d-4e57-9a40-0d9b7c5f1e23"


def ids(client: FlaskClient, query: str = "") -> list[str]:
    answer = client.get(f"/manage/tokens{query}")
    assert answer.status_code == 200
    assert answer.json is not None
    return [token["id"] for token in answer.json]


def test_create_with_defaults(client: FlaskClient, project_id: str) -> None:
    answer = client.post("/manage/tokens", json={"project_id": project_id})
    assert answer.status_code == 201
    token = answer.json
    assert token is not None
    assert list(token) == [
        "id",
        "token",
        "project_id",
        "expires_at",
        "is_active",
        "request_count",
        "max_requests",
        "created_at",
        "last_used_at",
    ]
    assert uuid.UUID(token["token"]).version == 4
    assert token["token"] != token["id"]
    assert token["project_id"] == project_id
    assert (token["is_active"], token["request_count"], token["max_requests"]) == (True, 0, 0)
    assert token["last_used_at"] is None
    lifetime = datetime.fromisoformat(token["expires_at"]) - datetime.fromisoformat(token["created_at"])
    assert lifetime == timedelta(days=30)


def test_create_with_limits(client: FlaskClient, project_id: str) -> None:
    limits = {"expires_in_days": 1, "max_requests": 2**63 - 1}
    token = client.post("/manage/tokens", json={"project_id": project_id.upper(), **limits}).json
    assert token is not None
    assert token["max_requests"] == 2**63 - 1
    left = datetime.fromisoformat(token["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(days=1)


def test_never_expires(client: FlaskClient, project_id: str) -> None:
    token = client.post("/manage/tokens", json={"project_id": project_id, "expires_in_days": 0}).json
    assert token is not None
    assert token["expires_at"] == "9999-12-31T23:59:59Z"


def test_the_longest_time_can_be_written(client: FlaskClient, project_id: str) -> None:
    answer = client.post("/manage/tokens", json={"project_id": project_id, "expires_in_days": 2_880_000})
    assert answer.status_code == 201


def test_unknown_project(client: FlaskClient) -> None:
    assert client.post("/manage/tokens", json={"project_id": UNKNOWN}).status_code == 404


def test_inactive_project(client: FlaskClient, project_id: str) -> None:
    client.patch(f"/manage/projects/{project_id}", json={"is_active": False})
    answer = client.post("/manage/tokens", json={"project_id": project_id})
    assert answer.status_code == 403
    assert answer.json is not None
    assert answer.json["code"] == "project_inactive"


@pytest.mark.parametrize("name", ["id", "token"])
def test_get_by_id_and_by_value(client: FlaskClient, token: dict[str, object], name: str) -> None:
    answer = client.get(f"/manage/tokens/{token[name]}")
    assert (answer.status_code, without_usage(answer.json)) == (200, token)


@pytest.mark.parametrize("name", ["id", "token"])
def test_update(client: FlaskClient, token: dict[str, object], name: str) -> None:
    path = f"/manage/tokens/{token[name]}"
    answer = client.patch(path, json={"max_requests": 5})
    assert (answer.status_code, answer.json) == (200, {**token, "max_requests": 5})
    assert client.patch(path, json={"is_active": False}).json == {
        **token,
        "max_requests": 5,
        "is_active": False,
    }
    assert client.patch(path, json={"is_active": True, "max_requests": 0}).json == token


def test_update_of_nothing(client: FlaskClient, token: dict[str, object]) -> None:
    answer = client.patch(f"/manage/tokens/{token['id']}", json={})
    assert (answer.status_code, answer.json) == (200, token)


@pytest.mark.parametrize("name", ["id", "token"])
def test_revoke_twice(client: FlaskClient, token: dict[str, object], name: str) -> None:
    path = f"/manage/tokens/{token[name]}"
    assert [client.delete(path).status_code for _ in range(2)] == [204, 204]
    assert without_usage(client.get(path).json) == {**token, "is_active": False}


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("token_id", [UNKNOWN, "no-uuid"])
def test_unknown(client: FlaskClient, method: str, token_id: str) -> None:
    assert client.open(f"/manage/tokens/{token_id}", method=method, json={}).status_code == 404


def test_used_token(client: FlaskClient, store: Store, token: dict[str, object]) -> None:
    used = Token.update(request_count=3, last_used_at=1_700_000_000_999_999).where(Token.id == token["id"])
    with store.database.write():
        used.execute()
    shown = client.get(f"/manage/tokens/{token['id']}").json
    assert without_usage(shown) == {**token, "request_count": 3, "last_used_at": "2023-11-14T22:13:20Z"}


def test_list_is_newest_first(client: FlaskClient, project_id: str) -> None:
    created = [client.post("/manage/tokens", json={"project_id": project_id}).json for _ in range(3)]
    assert ids(client) == [token["id"] for token in reversed(created) if token is not None]


def test_filter_by_project(client: FlaskClient, token: dict[str, object]) -> None:
    assert ids(client, f"?projectId={token['project_id']}") == [token["id"]]
    assert ids(client, f"?projectId={str(token['project_id']).upper()}") == [token["id"]]
    assert ids(client, f"?projectId={UNKNOWN}") == []


def test_filter_by_activity(client: FlaskClient, store: Store, token: dict[str, object]) -> None:
    project = {"project_id": token["project_id"]}
    revoked = client.post("/manage/tokens", json=project).json
    expired = client.post("/manage/tokens", json=project).json
    assert revoked is not None
    assert expired is not None
    client.delete(f"/manage/tokens/{revoked['id']}")
    with store.database.write():
        Token.update(expires_at=1).where(Token.id == expired["id"]).execute()
    assert ids(client, "?activeOnly=true") == ids(client, "?activeOnly=True") == [token["id"]]
    assert len(ids(client, "?activeOnly=false")) == len(ids(client)) == 3


@pytest.mark.parametrize(
    "query", ["projectId=x", "projectId=", "activeOnly=1", "activeOnly=yes", "activeOnly=", "activeOnly=null"]
)
def test_bad_query(client: FlaskClient, query: str) -> None:
    answer = client.get(f"/manage/tokens?{query}")
    assert answer.status_code == 400
    assert answer.json is not None
    assert query.partition("=")[0] in answer.json["message"]
