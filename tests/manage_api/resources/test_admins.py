import pytest
from flask.testing import FlaskClient

from store.management.admins import ROOT_ID, Admins
from store.store import Store


def create(client: FlaskClient, role: str = "admin", name: str = "ops") -> dict[str, str]:
    answer = client.post("/manage/admins", json={"name": name, "role": role})
    assert answer.status_code == 201, answer.text
    return answer.get_json()  # type: ignore[no-any-return]


def status(anyone: FlaskClient, made: dict[str, str]) -> int:
    return anyone.get("/manage/projects", headers={"Authorization": f"Bearer {made['token']}"}).status_code


def test_a_token_is_shown_once_and_works_until_its_administrator_is_deleted(
    client: FlaskClient, anyone: FlaskClient
) -> None:
    made = create(client)
    assert status(anyone, made) == 200
    listed = client.get("/manage/admins").get_json()
    assert [(each["name"], each["role"], each["is_active"]) for each in listed] == [
        ("root", "admin", True),
        ("ops", "admin", True),
    ]
    assert listed[1] == {name: value for name, value in made.items() if name != "token"}
    assert client.delete(f"/manage/admins/{made['id']}").status_code == 204
    assert status(anyone, made) == 401
    assert client.delete(f"/manage/admins/{made['id']}").status_code == 404


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": "ops", "role": "owner"}, "must be one of admin, viewer"),
        ({"name": "cli:me", "role": "admin"}, "letters, digits and any of"),
        ({"name": "ops\n", "role": "admin"}, "letters, digits and any of"),
        ({"name": "4e9e2930-8b67-4da4-8974-c4b7e842b758", "role": "admin"}, "the form of a token"),
        ({"role": "admin"}, "name"),
    ],
)
def test_a_bad_administrator_is_refused(client: FlaskClient, body: dict[str, str], message: str) -> None:
    answer = client.post("/manage/admins", json=body)
    assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_request")
    assert message in answer.get_json()["message"]


def test_conflicts_have_their_own_status(client: FlaskClient, store: Store) -> None:
    made = create(client)
    taken = client.post("/manage/admins", json={"name": "ops", "role": "viewer"})
    root = client.delete(f"/manage/admins/{ROOT_ID}")
    assert [(each.status_code, each.get_json()["code"]) for each in (taken, root)] == [(409, "conflict")] * 2
    Admins(store).disable(ROOT_ID)
    answer = client.delete(
        f"/manage/admins/{made['id']}", environ_overrides={"HTTP_AUTHORIZATION": f"Bearer {made['token']}"}
    )
    assert (answer.status_code, answer.get_json()["code"]) == (409, "last_admin")


def test_root_is_refused_while_it_is_disabled(client: FlaskClient, store: Store) -> None:
    create(client)
    Admins(store).disable(ROOT_ID)
    answer = client.get("/manage/projects")
    assert (answer.status_code, answer.get_json()["code"]) == (401, "unauthorized")
    assert "root is disabled" in answer.get_json()["message"]
    Admins(store).enable(ROOT_ID)
    assert client.get("/manage/projects").status_code == 200
