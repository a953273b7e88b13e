import uuid
from datetime import UTC, datetime, timedelta

import pytest
from flask.testing import FlaskClient
from support.stores.ledger import without_usage
from support.stores.stores import set_columns

from store.database.models import Token
from store.store import Store

UNKNOWN = "3f2b8a9e-6c1d-4e57-9a40-0d9b7c5f1e23"


def ids(client: FlaskClient, query: str = "") -> list[str]:
    answer = client.get(f"/manage/tokens{query}")
    assert answer.status_code == 200
    assert answer.json is not None
    return [token["id"] for token in answer.json]


def test_a_token_is_created_with_defaults(client: FlaskClient, project_id: str) -> None:
    answer = client.post("/manage/tokens", json={"project_id": project_id})
    assert answer.status_code == 201
    token = answer.json
    assert token is not None
    assert list(token) == [
        "id",
        "name",
        "token",
        "previous_expires_at",
        "project_id",
        "project_name",
        "expires_at",
        "is_active",
        "request_count",
        "max_requests",
        "rate_limits",
        "budgets",
        "max_parallel_requests",
        "allowed_models",
        "allowed_endpoints",
        "allowed_ips",
        "created_at",
        "last_used_at",
        "limits",
    ]
    assert (token["rate_limits"], token["max_parallel_requests"], token["limits"]) == (None, None, [])
    assert token["budgets"] is None
    assert (token["allowed_models"], token["allowed_endpoints"], token["allowed_ips"]) == (None, None, None)
    assert uuid.UUID(token["token"]).version == 4
    assert token["token"] != token["id"]
    assert (token["project_id"], token["project_name"]) == (project_id, "One")
    assert (token["is_active"], token["request_count"], token["max_requests"]) == (True, 0, 0)
    assert token["last_used_at"] is None
    lifetime = datetime.fromisoformat(token["expires_at"]) - datetime.fromisoformat(token["created_at"])
    assert lifetime == timedelta(days=30)


def test_a_token_has_the_name_of_its_project(client: FlaskClient, token: dict[str, str]) -> None:
    path = f"/manage/tokens/{token['id']}"
    other = client.post("/manage/projects", json={"name": "Two", "api_key": "sk-second"}).get_json()
    client.post("/manage/tokens", json={"project_id": other["id"]})
    client.patch(f"/manage/projects/{token['project_id']}", json={"name": "Renamed"})
    listed = client.get("/manage/tokens").get_json()
    assert {each["project_id"]: each["project_name"] for each in listed} == {
        token["project_id"]: "Renamed",
        other["id"]: "Two",
    }
    assert client.patch(path, json=client.get(path).json).get_json()["project_name"] == "Renamed"
    answer = client.patch(path, json={"project_name": "Two"})
    assert answer.status_code == 400
    assert "'project_name' is read-only" in answer.get_json()["message"]


def test_a_token_has_a_name(client: FlaskClient, project_id: str) -> None:
    token = client.post(
        "/manage/tokens", json={"project_id": project_id, "name": "Ann\u2019s \U0001f469\u200d\U0001f4bb"}
    ).json
    assert token is not None
    assert token["name"] == "Ann\u2019s \U0001f469\u200d\U0001f4bb"
    path = f"/manage/tokens/{token['id']}"
    assert without_usage(client.get(path).json) == token
    assert client.get("/manage/tokens").json == [token]
    assert client.patch(path, json={"name": "Ben"}).json == {**token, "name": "Ben"}
    assert client.patch(path, json={"max_requests": 0}).get_json()["name"] == "Ben"
    assert client.patch(path, json={"name": None}).json == {**token, "name": None}
    assert without_usage(client.get(path).json) == {**token, "name": None}


@pytest.mark.parametrize("name", [None, "n", "n" * 100, " a ", "\U0001f469" * 100, "helpdesk-assistant", "<b>&\"'=1+1"])
def test_names_that_are_accepted(client: FlaskClient, project_id: str, name: str | None) -> None:
    for _ in range(2):
        answer = client.post("/manage/tokens", json={"project_id": project_id, "name": name})
        assert (answer.status_code, answer.get_json()["name"]) == (201, name)


WORDS = "must have a visible character, and no control characters or line ends"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "must not be empty"),
        ("n" * 101, "must have at most 100 characters"),
        (1, "must be a string or null, not an integer"),
        (["n"], "must be a string or null, not an array"),
        *((name, WORDS) for name in (" ", "\u00a0\u2003", "\u200b", "a\0", "a\nb", "a\n", "\ra", "a\tb", "a\x1b[2J")),
        *((name, WORDS) for name in ("a\x7f", "a\x85", "a\u2028b", "a\u2029", "\u202ea", "a\u2066b")),
        ("Ann sk-0123456789abc", None),
        ("for 8f14e45f-ceea-4672-9c6d-4cf0d7a1b5e1", None),
    ],
)
def test_names_that_are_refused(
    client: FlaskClient, token: dict[str, object], name: object, message: str | None
) -> None:
    expected = (
        f"The field 'name' {message}."
        if message
        else (
            "The field 'name' has something in it with the form of a token or a key: a UUID, or sk- with more behind. "
            "A name is shown in reports, logs and mitmweb: choose one without."
        )
    )
    for answer in (
        client.post("/manage/tokens", json={"project_id": token["project_id"], "name": name}),
        client.patch(f"/manage/tokens/{token['id']}", json={"name": name, "max_requests": 5}),
    ):
        assert (answer.status_code, answer.get_json()["message"]) == (400, expected)
    assert client.get("/manage/tokens").json == [token]


def test_a_name_that_is_not_valid_unicode_is_refused(client: FlaskClient, token: dict[str, object]) -> None:
    for body in (b'{"name": "a\\ud800"}', b'{"name": "\xff"}'):
        answer = client.patch(f"/manage/tokens/{token['id']}", data=body, content_type="application/json")
        assert (answer.status_code, answer.get_json()["message"]) == (400, "The body is not valid JSON in UTF-8.")


def test_a_token_is_created_with_limits(client: FlaskClient, project_id: str) -> None:
    limits = {"expires_in_days": 1, "max_requests": 2**63 - 1}
    token = client.post("/manage/tokens", json={"project_id": project_id.upper(), **limits}).json
    assert token is not None
    assert token["max_requests"] == 2**63 - 1
    left = datetime.fromisoformat(token["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(days=1)


def test_a_token_of_zero_days_never_expires(client: FlaskClient, project_id: str) -> None:
    token = client.post("/manage/tokens", json={"project_id": project_id, "expires_in_days": 0}).json
    assert token is not None
    assert token["expires_at"] == "9999-12-31T23:59:59Z"


def test_the_longest_time_can_be_written(client: FlaskClient, project_id: str) -> None:
    answer = client.post("/manage/tokens", json={"project_id": project_id, "expires_in_days": 2_880_000})
    assert answer.status_code == 201


NEVER = "9999-12-31T23:59:59Z"


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("2040-01-01T00:00:00Z", "2040-01-01T00:00:00Z"),
        ("2040-01-01T01:30:00+01:30", "2040-01-01T00:00:00Z"),
        ("2040-01-01T00:00:00.999999Z", "2040-01-01T00:00:00Z"),
        (NEVER, NEVER),
        (None, NEVER),
    ],
)
def test_a_token_ends_at_a_time(client: FlaskClient, token: dict[str, object], sent: str | None, shown: str) -> None:
    made = client.post("/manage/tokens", json={"project_id": token["project_id"], "expires_at": sent})
    assert (made.status_code, made.get_json()["expires_at"]) == (201, shown)
    path = f"/manage/tokens/{token['id']}"
    assert client.patch(path, json={"expires_at": sent}).json == {**token, "expires_at": shown}
    assert client.get(path).get_json()["expires_at"] == shown


@pytest.mark.parametrize(("days", "lifetime"), [(1, timedelta(days=1)), (365, timedelta(days=365)), (0, None)])
def test_a_token_is_extended_from_now(
    client: FlaskClient, store: Store, token: dict[str, object], days: int, lifetime: timedelta | None
) -> None:
    set_columns(store, "token", str(token["id"]), created_at=1, expires_at=1)
    shown = client.patch(f"/manage/tokens/{token['id']}", json={"expires_in_days": days}).get_json()["expires_at"]
    if lifetime is None:
        assert shown == NEVER
    else:
        assert timedelta() <= datetime.now(UTC) + lifetime - datetime.fromisoformat(shown) < timedelta(seconds=30)


def test_a_past_time_expires_a_token_and_creates_none(client: FlaskClient, token: dict[str, object]) -> None:
    past = (datetime.now(UTC) - timedelta(seconds=2)).isoformat()
    answer = client.post("/manage/tokens", json={"project_id": token["project_id"], "expires_at": past})
    assert answer.status_code == 400
    assert answer.get_json()["message"] == (
        "The field 'expires_at' must be in the future, or null for a token that never expires."
    )
    assert ids(client, "?activeOnly=true") == ids(client) == [token["id"]]
    assert client.patch(f"/manage/tokens/{token['id']}", json={"expires_at": past}).status_code == 200
    assert ids(client, "?activeOnly=true") == []


@pytest.mark.parametrize("time", ["2040-01-01T00:00:00Z", None])
def test_a_time_and_days_are_not_sent_together(client: FlaskClient, token: dict[str, object], time: str | None) -> None:
    both = {"expires_at": time, "expires_in_days": 30}
    for answer in (
        client.post("/manage/tokens", json={"project_id": token["project_id"], **both}),
        client.patch(f"/manage/tokens/{token['id']}", json=both),
    ):
        assert answer.status_code == 400
        assert answer.get_json()["message"] == (
            "The body must have only one of the fields 'expires_at', 'expires_in_days'."
        )
    assert without_usage(client.get(f"/manage/tokens/{token['id']}").json) == token


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "2040-01-01",
        "2040-01-01T00:00:00",
        "2040-02-30T00:00:00Z",
        "2040-01-01 00:00:00Z",
        0,
        2208988800,
        True,
        [],
    ],
)
def test_an_invalid_time_is_refused(client: FlaskClient, token: dict[str, object], value: object) -> None:
    for answer in (
        client.post("/manage/tokens", json={"project_id": token["project_id"], "expires_at": value}),
        client.patch(f"/manage/tokens/{token['id']}", json={"expires_at": value}),
    ):
        assert answer.status_code == 400
        assert answer.get_json()["message"].startswith("The field 'expires_at' must be ")
    assert without_usage(client.get(f"/manage/tokens/{token['id']}").json) == token


@pytest.mark.parametrize("value", ["1.0", "true", "-1", "2880001", '"1"', "null"])
def test_bad_days_are_refused_and_change_nothing(client: FlaskClient, token: dict[str, object], value: str) -> None:
    body = f'{{"expires_in_days": {value}}}'
    answer = client.patch(f"/manage/tokens/{token['id']}", data=body, content_type="application/json")
    assert answer.status_code == 400
    assert without_usage(client.get(f"/manage/tokens/{token['id']}").json) == token


def test_an_unknown_project_gets_no_token(client: FlaskClient) -> None:
    assert client.post("/manage/tokens", json={"project_id": UNKNOWN}).status_code == 404


def test_an_inactive_project_gets_no_token(client: FlaskClient, project_id: str) -> None:
    client.patch(f"/manage/projects/{project_id}", json={"is_active": False})
    answer = client.post("/manage/tokens", json={"project_id": project_id})
    assert answer.status_code == 403
    assert answer.json is not None
    assert answer.json["code"] == "project_inactive"


@pytest.mark.parametrize("name", ["id", "token"])
def test_a_token_is_found_by_its_id_and_by_its_value(client: FlaskClient, token: dict[str, object], name: str) -> None:
    answer = client.get(f"/manage/tokens/{token[name]}")
    assert (answer.status_code, without_usage(answer.json)) == (200, token)


@pytest.mark.parametrize("name", ["id", "token"])
def test_an_update_changes_the_named_fields_only(client: FlaskClient, token: dict[str, object], name: str) -> None:
    path = f"/manage/tokens/{token[name]}"
    answer = client.patch(path, json={"max_requests": 5})
    assert (answer.status_code, answer.json) == (200, {**token, "max_requests": 5})
    assert client.patch(path, json={"is_active": False}).json == {
        **token,
        "max_requests": 5,
        "is_active": False,
    }
    assert client.patch(path, json={"is_active": True, "max_requests": 0}).json == token


def test_an_update_without_fields_changes_nothing(client: FlaskClient, token: dict[str, object]) -> None:
    answer = client.patch(f"/manage/tokens/{token['id']}", json={})
    assert (answer.status_code, answer.json) == (200, token)


@pytest.mark.parametrize("name", ["id", "token"])
def test_a_token_can_be_revoked_twice(client: FlaskClient, token: dict[str, object], name: str) -> None:
    path = f"/manage/tokens/{token[name]}"
    assert [client.delete(path).status_code for _ in range(2)] == [204, 204]
    assert without_usage(client.get(path).json) == {**token, "is_active": False}


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("token_id", [UNKNOWN, "no-uuid"])
def test_an_unknown_token_is_not_found(client: FlaskClient, method: str, token_id: str) -> None:
    assert client.open(f"/manage/tokens/{token_id}", method=method, json={}).status_code == 404


def test_a_used_token_shows_its_count_and_its_last_use(
    client: FlaskClient, store: Store, token: dict[str, object]
) -> None:
    used = Token.update(request_count=3, last_used_at=1_700_000_000_999_999).where(Token.id == token["id"])
    with store.database.write():
        used.execute()
    shown = client.get(f"/manage/tokens/{token['id']}").json
    assert without_usage(shown) == {**token, "request_count": 3, "last_used_at": "2023-11-14T22:13:20Z"}


def test_tokens_are_listed_newest_first(client: FlaskClient, project_id: str) -> None:
    created = [client.post("/manage/tokens", json={"project_id": project_id}).json for _ in range(3)]
    assert ids(client) == [token["id"] for token in reversed(created) if token is not None]


def test_tokens_are_filtered_by_project(client: FlaskClient, token: dict[str, object]) -> None:
    assert ids(client, f"?projectId={token['project_id']}") == [token["id"]]
    assert ids(client, f"?projectId={str(token['project_id']).upper()}") == [token["id"]]
    assert ids(client, f"?projectId={UNKNOWN}") == []


def test_tokens_are_filtered_by_activity(client: FlaskClient, store: Store, token: dict[str, object]) -> None:
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


def test_tokens_are_filtered_by_expiry(client: FlaskClient, store: Store, project_id: str) -> None:
    """The limit is exclusive. Tokens that never expire are left out, expired ones are listed."""

    def make(project_id: str, expires_at: str | None) -> str:
        token = client.post("/manage/tokens", json={"project_id": project_id, "expires_at": expires_at}).get_json()
        return str(token["id"])

    other = client.post("/manage/projects", json={"name": "Other", "api_key": "sk-other"}).get_json()["id"]
    expired, soon, later = (make(project_id, f"2040-01-0{day}T00:00:00Z") for day in (1, 2, 3))
    never, revoked, elsewhere = (
        make(project_id, None),
        make(project_id, "2040-01-02T00:00:00Z"),
        make(other, "2040-01-01T00:00:00Z"),
    )
    client.delete(f"/manage/tokens/{revoked}")
    set_columns(store, "token", expired, expires_at=1)
    for query, found in {
        "expiresBefore=2040-01-02T00:00:00Z": [elsewhere, expired],
        "expiresBefore=2040-01-02": [elsewhere, expired],
        "expiresBefore=2040-01-02T00:00:00.000001Z": [elsewhere, revoked, soon, expired],
        "expiresBefore=2040-01-02T02:00:00%2B01:00": [elsewhere, revoked, soon, expired],
        f"expiresBefore=2040-01-03&projectId={project_id}": [revoked, soon, expired],
        f"expiresBefore=2040-01-03&projectId={project_id}&activeOnly=true": [soon],
        "expiresBefore=2040-01-04&activeOnly=true": [elsewhere, later, soon],
        "expiresBefore=9999-12-31T23:59:59Z": [elsewhere, revoked, later, soon, expired],
        "expiresBefore=1970-01-01": [],
    }.items():
        assert ids(client, f"?{query}") == found, query
    assert never in ids(client)


@pytest.mark.parametrize(
    "query",
    [
        *("projectId=x", "projectId=", "activeOnly=1", "activeOnly=yes", "activeOnly=", "activeOnly=null"),
        *("expiresBefore=", "expiresBefore=tomorrow", "expiresBefore=2040-02-30", "expiresBefore=2040-01-01T00:00:00"),
        *("expiresBefore=1", "expiresBefore=2040-01-01&expiresBefore=2040-01-02"),
    ],
)
def test_a_bad_query_is_refused(client: FlaskClient, query: str) -> None:
    answer = client.get(f"/manage/tokens?{query}")
    assert answer.status_code == 400
    assert answer.json is not None
    assert query.partition("=")[0] in answer.json["message"]
