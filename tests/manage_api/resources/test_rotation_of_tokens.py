import pytest
from flask.testing import FlaskClient
from support.stores.ledger import without_usage
from support.stores.store_clock import StoreClock

from store.clock import from_rfc3339, to_rfc3339

UNKNOWN = "3f2b8a9e-6c1d-4e57-9a40-0d9b7c5f1e23"
NOW = from_rfc3339("2027-03-01T12:00:00.25Z")

type Token = dict[str, str]


@pytest.fixture
def store_clock(monkeypatch: pytest.MonkeyPatch) -> StoreClock:
    store_clock = StoreClock(monkeypatch)
    store_clock.set(NOW)
    return store_clock


@pytest.fixture
def token(store_clock: StoreClock, client: FlaskClient, project_id: str) -> Token:
    """A token that expires in 30 days."""
    del store_clock  # it was set before
    made: Token = client.post("/manage/tokens", json={"project_id": project_id, "name": "Ann"}).get_json()
    return made


@pytest.mark.parametrize("body", [None, b"", b"{}", b'{"grace_seconds": 0}'])
@pytest.mark.parametrize("name", ["id", "token"])
def test_a_token_gets_a_new_value_and_the_old_one_ends_at_once(
    client: FlaskClient, token: Token, name: str, body: bytes | None
) -> None:
    content_type = None if body is None else "application/json"
    answer = client.post(f"/manage/tokens/{token[name]}/rotate", data=body, content_type=content_type)
    rotated = answer.get_json()
    assert (answer.status_code, rotated) == (200, {**token, "token": rotated["token"]})
    assert rotated["token"] not in {token["token"], token["id"]}
    assert client.get(f"/manage/tokens/{token['token']}").status_code == 404
    assert without_usage(client.get(f"/manage/tokens/{rotated['token']}").json) == rotated


@pytest.mark.parametrize(
    ("grace_seconds", "shown"),
    [
        (1, "2027-03-01T12:00:02Z"),
        (86_400, "2027-03-02T12:00:01Z"),
        (2_591_999, "2027-03-31T12:00:00Z"),
        (2_592_000, "2027-03-31T12:00:00Z"),  # when the token expires
    ],
)
def test_a_previous_value_is_a_token_id_until_the_time_that_is_shown(
    client: FlaskClient, store_clock: StoreClock, token: Token, grace_seconds: int, shown: str
) -> None:
    path = f"/manage/tokens/{token['token'].upper()}"
    rotated = client.post(f"{path}/rotate", json={"grace_seconds": grace_seconds}).get_json()
    assert rotated == {**token, "token": rotated["token"], "previous_expires_at": shown}
    store_clock.set(from_rfc3339(shown) - 1)
    assert without_usage(client.get(path).json) == rotated
    assert client.get("/manage/tokens").json == [rotated]
    for report in ("usage", "requests"):
        answers = [client.get(f"/manage/{report}?tokenId={token[name]}").json for name in ("id", "token")]
        assert answers[0] == answers[1]
    store_clock.set(from_rfc3339(shown))
    assert client.get(path).status_code == 404
    assert client.get("/manage/tokens").json == [{**rotated, "previous_expires_at": None}]


def test_a_second_rotation_ends_the_older_value(client: FlaskClient, token: Token) -> None:
    path = f"/manage/tokens/{token['id']}/rotate"
    second = client.post(path, json={"grace_seconds": 60}).get_json()
    third = client.post(path, json={"grace_seconds": 10}).get_json()
    assert third["previous_expires_at"] == "2027-03-01T12:00:11Z"
    statuses = [client.get(f"/manage/tokens/{each['token']}").status_code for each in (token, second, third)]
    assert statuses == [404, 200, 200]


def test_an_earlier_expiry_ends_the_previous_value_too(client: FlaskClient, token: Token) -> None:
    path = f"/manage/tokens/{token['id']}"
    client.post(f"{path}/rotate", json={"grace_seconds": 60})
    changed = client.patch(path, json={"expires_at": "2027-03-01T12:00:30Z"}).get_json()
    assert changed["previous_expires_at"] == changed["expires_at"] == "2027-03-01T12:00:30Z"


def test_a_rotated_token_that_was_read_can_be_sent_back(
    client: FlaskClient, store_clock: StoreClock, token: Token
) -> None:
    path = f"/manage/tokens/{token['id']}"
    assert client.patch(path, json={"previous_expires_at": None}).json == token
    rotated = client.post(f"{path}/rotate", json={"grace_seconds": 60}).get_json()
    assert client.patch(path, json=client.get(path).json).json == rotated
    for value in (None, "2027-03-01T12:01:02Z", to_rfc3339(NOW), 1):
        answer = client.patch(path, json={"previous_expires_at": value, "is_active": False})
        assert (answer.status_code, "'previous_expires_at' is read-only" in answer.get_json()["message"]) == (400, True)
    store_clock.set(NOW + 3600 * 1_000_000)
    assert client.patch(path, json=rotated).status_code == 400
    assert client.patch(path, json={**rotated, "previous_expires_at": None}).status_code == 200


def test_a_token_that_makes_no_requests_is_not_rotated(
    client: FlaskClient, store_clock: StoreClock, token: Token
) -> None:
    path = f"/manage/tokens/{token['id']}"
    client.delete(path)
    answer = client.post(f"{path}/rotate", json={"grace_seconds": 60})
    assert (answer.status_code, answer.get_json()["code"]) == (400, "token_inactive")
    assert "WWW-Authenticate" not in answer.headers
    client.patch(path, json={"is_active": True})
    store_clock.set(from_rfc3339(token["expires_at"]))
    answer = client.post(f"{path}/rotate", json={"grace_seconds": 60})
    assert (answer.status_code, answer.get_json()["code"]) == (400, "token_expired")
    assert without_usage(client.get(path).json) == token


def test_a_token_of_an_inactive_project_is_rotated(client: FlaskClient, token: Token) -> None:
    client.patch(f"/manage/projects/{token['project_id']}", json={"is_active": False})
    assert client.post(f"/manage/tokens/{token['id']}/rotate").status_code == 200


@pytest.mark.parametrize("token_id", [UNKNOWN, "no-uuid"])
def test_an_unknown_token_is_not_rotated(client: FlaskClient, token_id: str) -> None:
    assert client.post(f"/manage/tokens/{token_id}/rotate").status_code == 404


@pytest.mark.parametrize("value", ["-1", "2592001", "1.0", "1e3", "true", '"1"', "null", "[]", "9223372036854775808"])
def test_a_bad_grace_is_refused_and_changes_nothing(client: FlaskClient, token: Token, value: str) -> None:
    path = f"/manage/tokens/{token['id']}"
    answer = client.post(f"{path}/rotate", data=f'{{"grace_seconds": {value}}}', content_type="application/json")
    assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_request")
    assert answer.get_json()["message"].startswith("The field 'grace_seconds' must be ")
    assert without_usage(client.get(path).json) == token


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b'{"grace": 60}', "application/json", 400),
        (b'{"grace_seconds": 60, "expires_in_days": 1}', "application/json", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b"{", "application/json", 400),
        (b"grace_seconds=60", "application/x-www-form-urlencoded", 415),
        (b'{"grace_seconds": 60}', None, 415),
    ],
)
def test_another_body_is_refused_and_changes_nothing(
    client: FlaskClient, token: Token, body: bytes, content_type: str | None, status: int
) -> None:
    path = f"/manage/tokens/{token['id']}"
    assert client.post(f"{path}/rotate", data=body, content_type=content_type).status_code == status
    assert without_usage(client.get(path).json) == token


def test_a_mistyped_field_is_told_its_name(client: FlaskClient, token: Token) -> None:
    answer = client.post(f"/manage/tokens/{token['id']}/rotate", json={"grace_second": 60})
    assert "'grace_seconds'" in answer.get_json()["message"]
