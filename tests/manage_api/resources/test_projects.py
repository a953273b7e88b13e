import pytest
from flask.testing import FlaskClient
from support.stores.ledger import without_usage
from support.stores.stores import refused_by_the_database, set_columns

from store.database.models import Project
from store.management import bulk
from store.store import Store

UNKNOWN = "3f2b8a9e-6c1d-4e57-9a40-0d9b7c5f1e23"


def api_key(store: Store, project_id: str) -> str:
    sealed = Project.get(Project.id == project_id).sealed_api_key
    return store.vault.open_api_key(project_id, bytes(sealed))


def test_there_are_no_projects_at_first(client: FlaskClient) -> None:
    answer = client.get("/manage/projects")
    assert (answer.status_code, answer.json) == (200, [])


def test_a_project_is_created_without_showing_its_key(client: FlaskClient, store: Store) -> None:
    answer = client.post("/manage/projects", json={"name": "Ünï 😀", "api_key": "sk-key"})
    assert answer.status_code == 201
    project = answer.json
    assert project is not None
    assert list(project) == [
        *("id", "name", "is_active", "created_at", "updated_at", "api_key_updated_at"),
        *(
            "rate_limits",
            "budgets",
            "max_parallel_requests",
            "allowed_models",
            "allowed_endpoints",
            "allowed_ips",
            "limits",
        ),
    ]
    assert (project["rate_limits"], project["max_parallel_requests"], project["limits"]) == (None, None, [])
    assert project["budgets"] is None
    assert (project["allowed_models"], project["allowed_endpoints"], project["allowed_ips"]) == (None, None, None)
    assert project["name"] == "Ünï 😀"
    assert project["is_active"] is True
    assert project["created_at"] == project["updated_at"] == project["api_key_updated_at"]
    assert project["created_at"].endswith("Z")
    assert api_key(store, project["id"]) == "sk-key"
    assert without_usage(client.get(f"/manage/projects/{project['id']}").json) == project


def test_list_is_ordered_by_name(client: FlaskClient) -> None:
    for name in ("b", "a", "c", "a"):
        client.post("/manage/projects", json={"name": name, "api_key": "k"})
    projects = client.get("/manage/projects").json
    assert projects is not None
    assert [project["name"] for project in projects] == ["a", "a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "key"), [("n", "k"), ("n" * 255, "k" * 4096), (" a ", "!~"), ("é" * 255, "sk-proj_1")]
)
def test_limits_are_allowed(client: FlaskClient, name: str, key: str) -> None:
    answer = client.post("/manage/projects", json={"name": name, "api_key": key})
    assert answer.status_code == 201
    assert answer.json is not None
    assert answer.json["name"] == name


def test_update_changes_the_named_fields_only(client: FlaskClient, store: Store, project_id: str) -> None:
    path = f"/manage/projects/{project_id}"
    answer = client.patch(path, json={"name": "Two"})
    assert answer.status_code == 200
    assert answer.json is not None
    assert (answer.json["name"], answer.json["is_active"]) == ("Two", True)
    assert api_key(store, project_id) == "sk-first"

    client.patch(path, json={"api_key": "sk-second"})
    assert api_key(store, project_id) == "sk-second"

    answer = client.patch(path, json={"is_active": False})
    assert answer.json is not None
    assert (answer.json["name"], answer.json["is_active"]) == ("Two", False)
    assert api_key(store, project_id) == "sk-second"


def test_a_project_shows_when_its_key_was_replaced(client: FlaskClient, store: Store, project_id: str) -> None:
    path = f"/manage/projects/{project_id}"
    set_columns(store, "project", project_id, api_key_updated_at=1_700_000_000_999_999)
    shown = "2023-11-14T22:13:20Z"
    assert client.get("/manage/projects").get_json()[0]["api_key_updated_at"] == shown
    assert client.patch(path, json={"name": "Two", "is_active": False}).get_json()["api_key_updated_at"] == shown
    replaced = client.patch(path, json={"api_key": "sk-second", "api_key_updated_at": shown}).get_json()
    assert replaced["api_key_updated_at"] == replaced["updated_at"] > shown
    answer = client.patch(path, json={"api_key": "sk-third", "api_key_updated_at": shown})
    assert (answer.status_code, api_key(store, project_id)) == (400, "sk-second")
    set_columns(store, "project", project_id, api_key_updated_at=None)
    assert client.get(path).get_json()["api_key_updated_at"] is None
    assert client.patch(path, json={"name": "One", "api_key_updated_at": None}).status_code == 200
    assert client.patch(path, json={"api_key_updated_at": shown}).status_code == 400


def test_update_without_fields_changes_nothing(client: FlaskClient, project_id: str) -> None:
    path = f"/manage/projects/{project_id}"
    before = without_usage(client.get(path).json)
    answer = client.patch(path, json={})
    assert (answer.status_code, answer.json) == (200, before)


@pytest.mark.parametrize("key", ["sk-admin-0123456789", "SK-ADMIN-0123456789", "sk-Admin-"])
def test_an_admin_key_is_refused(client: FlaskClient, store: Store, project_id: str, key: str) -> None:
    for answer in (
        client.post("/manage/projects", json={"name": "n", "api_key": key}),
        client.patch(f"/manage/projects/{project_id}", json={"name": "n", "api_key": key}),
    ):
        assert answer.status_code == 400
        assert answer.get_json()["message"] == (
            "The field 'api_key' begins with sk-admin-: an admin key makes other keys, and is not for inference. "
            "Send the key of a project."
        )
    assert [project["name"] for project in client.get("/manage/projects").get_json()] == ["One"]
    assert api_key(store, project_id) == "sk-first"


@pytest.mark.parametrize("key", [" sk-admin-0123456789", "\tsk-admin-0123456789", "\u00a0sk-admin-0123456789"])
def test_an_admin_key_is_not_hidden_by_blanks(client: FlaskClient, project_id: str, key: str) -> None:
    assert client.post("/manage/projects", json={"name": "n", "api_key": key}).status_code == 400
    assert client.patch(f"/manage/projects/{project_id}", json={"api_key": key}).status_code == 400


def test_a_deleted_project_and_its_tokens_are_not_found(
    client: FlaskClient, project_id: str, token: dict[str, object]
) -> None:
    answer = client.delete(f"/manage/projects/{project_id}")
    assert (answer.status_code, answer.data) == (204, b"")
    assert "Content-Type" not in answer.headers
    assert client.delete(f"/manage/projects/{project_id}").status_code == 404
    assert client.get(f"/manage/tokens/{token['id']}").status_code == 404


def test_a_bulk_revoke_counts_revoked_and_already_revoked_tokens(
    client: FlaskClient, project_id: str, token: dict[str, object]
) -> None:
    client.post("/manage/tokens", json={"project_id": project_id})
    client.delete(f"/manage/tokens/{token['id']}")
    path = f"/manage/projects/{project_id}/tokens/revoke"
    answer = client.post(path)
    assert answer.status_code == 200
    assert answer.json == {
        "revoked_count": 1,
        "already_revoked_count": 1,
        "total_tokens": 2,
        "failed_count": 0,
    }
    again = client.post(path, json={})
    assert again.json == {
        "revoked_count": 0,
        "already_revoked_count": 2,
        "total_tokens": 2,
        "failed_count": 0,
    }


def test_a_bulk_revoke_counts_the_tokens_it_failed_for(
    client: FlaskClient, store: Store, project_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails in the middle of the change, or from the start: then nothing was done, and the answer is an error."""
    monkeypatch.setattr(bulk, "BATCH", 2)
    ids = sorted(client.post("/manage/tokens", json={"project_id": project_id}).get_json()["id"] for _ in range(5))
    path = f"/manage/projects/{project_id}/tokens/revoke"
    with refused_by_the_database(store, ids):
        answer = client.post(path)
        assert (answer.status_code, answer.get_json()["code"]) == (503, "store_unavailable")
        assert len(client.get("/manage/tokens?activeOnly=true").get_json()) == 5
    with refused_by_the_database(store, [ids[2]]):
        answer = client.post(path)
    counts = {"revoked_count": 3, "already_revoked_count": 0, "total_tokens": 5, "failed_count": 2}
    assert (answer.status_code, answer.json) == (200, counts)
    assert {token["id"] for token in client.get("/manage/tokens?activeOnly=true").get_json()} == {ids[2], ids[3]}
    counts = {"revoked_count": 2, "already_revoked_count": 3, "total_tokens": 5, "failed_count": 0}
    assert client.post(path).json == counts


@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/tokens/revoke")])
@pytest.mark.parametrize("project_id", [UNKNOWN, "no-uuid", "1"])
def test_an_unknown_project_is_not_found(client: FlaskClient, method: str, project_id: str, suffix: str) -> None:
    answer = client.open(f"/manage/projects/{project_id}{suffix}", method=method, json={})
    assert answer.status_code == 404


def test_an_id_in_upper_case_is_accepted(client: FlaskClient, project_id: str) -> None:
    assert client.get(f"/manage/projects/{project_id.upper()}").status_code == 200


def test_head_has_no_body(client: FlaskClient, project_id: str) -> None:
    answer = client.head(f"/manage/projects/{project_id}")
    assert (answer.status_code, answer.data) == (200, b"")
