import flask
import pytest
from flask.testing import FlaskClient
from support.openapi import DOCUMENT
from support.stores.stores import path_of

from manage_api.app import create_app
from manage_api.contract import MAX_BODY
from store.errors import StoreUnavailable
from store.management.admins import Admins, Role
from store.management.tokens import UNREADABLE
from store.store import Store

PATHS = (
    "/manage",
    "/manage/",
    "/manage/projects",
    "/manage/nothing",
    "/manage/tokens/3f2b8a9e-6c1d-4e57-9a40-0d9b7c5f1e23",
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "BREW"])
def test_a_request_without_a_token_is_refused(anyone: FlaskClient, method: str, path: str) -> None:
    answer = anyone.open(path, method=method)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.fixture
def token(auth: dict[str, str]) -> str:
    return auth["Authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic {token}",
        "{token}",
        "Bearer {token}x",
        "Bearer x{token}",
        "Bearer\t{token}",
        "Bearer t\u00f6ken",
        "Bearer {token}, Bearer {token}",  # as a repeated header arrives
    ],
)
def test_a_wrong_token_is_refused(anyone: FlaskClient, token: str, header: str) -> None:
    answer = anyone.get("/manage/projects", headers={"Authorization": header.format(token=token)})
    assert answer.status_code == 401
    assert answer.json is not None
    assert answer.json["code"] == "unauthorized"


MISSING = "Send the management token in the header 'Authorization: Bearer <management token>'."
OTHER_SCHEME = f"The Authorization header does not have the scheme Bearer. {MISSING}"
WRONG = (
    "The management token is wrong. The right one is an administrator's or, for root, the setting MANAGEMENT_TOKEN or, "
    "where that is not set, in the file management_token in DATA_DIR."
)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, MISSING),
        ("", MISSING),
        ("Bearer", MISSING),
        ("bearer  ", MISSING),
        ("Basic {token}", OTHER_SCHEME),
        ("{token}", OTHER_SCHEME),
        ("Bearer{token}", OTHER_SCHEME),
        ("Token {token}", OTHER_SCHEME),
        ("Bearer {token}x", WRONG),
        ("Bearer 8f14e45f-ceea-4672-9c6d-4cf0d7a1b5e1", WRONG),
        ("Bearer {token}, Bearer {token}", WRONG),
    ],
)
def test_the_message_names_the_fault_of_the_header(
    anyone: FlaskClient, store: Store, token: str, header: str | None, message: str
) -> None:
    headers = {} if header is None else {"Authorization": header.format(token=token)}
    for path in PATHS:
        answer = anyone.get(path, headers=headers)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert answer.get_json()["message"] == message
        assert token not in answer.text
        assert str(path_of(store).parent) not in answer.text


def test_a_part_of_the_token_is_refused(anyone: FlaskClient, token: str) -> None:
    for wrong in (token[:-1], token.upper()):
        answer = anyone.get("/manage/projects", headers={"Authorization": f"Bearer {wrong}"})
        assert answer.status_code == 401


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Bearer  "])
def test_an_empty_token_is_refused(store: Store, header: str) -> None:
    answer = create_app(store, "").test_client().get("/manage/projects", headers={"Authorization": header})
    assert answer.status_code == 401


def test_a_repeated_header_is_refused(anyone: FlaskClient, token: str) -> None:
    header = ("Authorization", f"Bearer {token}")
    assert anyone.get("/manage/projects", headers=[header, header]).status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_right_token_is_accepted(anyone: FlaskClient, token: str, scheme: str) -> None:
    answer = anyone.get("/manage/projects", headers={"Authorization": f"{scheme} {token}"})
    assert answer.status_code == 200


def test_a_missing_token_is_refused_before_any_other_fault(anyone: FlaskClient) -> None:
    for body, content_type in (
        (b"{", "application/json"),
        (b"x", "text/plain"),
        (b"x" * (MAX_BODY + 1), "x/y"),
    ):
        answer = anyone.post("/manage/projects", data=body, content_type=content_type)
        assert answer.status_code == 401
    assert anyone.get("/manage/tokens?projectId=x").status_code == 401


@pytest.mark.parametrize("path", ["/health", "/docs", "/openapi.yaml"])
def test_paths_that_need_no_token(anyone: FlaskClient, path: str) -> None:
    answer = anyone.get(path)
    assert answer.status_code == 200
    answer.close()


def test_a_path_that_only_begins_alike_is_not_found(anyone: FlaskClient) -> None:
    assert anyone.get("/management").status_code == 404


SOMETHING = "00000000-0000-0000-0000-000000000009"


@pytest.fixture
def viewer(app: flask.Flask, store: Store) -> FlaskClient:
    """A client that holds the token of a viewer."""
    viewer = app.test_client()
    viewer.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {Admins(store).create('reader', Role.VIEWER)[1]}"
    return viewer


def routes(app: flask.Flask) -> list[tuple[str, str]]:
    """Return the method and path of every route but the pages', with an id in each variable."""
    return [
        (method, path)
        for rule in app.url_map.iter_rules()
        if not rule.endpoint.startswith("pages.")  # see pages/test_roles.py
        for path in ["".join(SOMETHING if is_variable else part for is_variable, part in rule._trace)]  # noqa: SLF001
        for method in rule.methods or ()
    ]


def test_a_viewer_reads_every_route_and_writes_none(app: flask.Flask, viewer: FlaskClient) -> None:
    paths = [(method, path.removeprefix("|")) for method, path in routes(app)]
    management = [route for route in paths if route[1].startswith("/manage/")]
    assert len({path for _, path in management}) >= 14
    for method, path in management:
        answer = viewer.open(path, method=method)
        if method in {"GET", "HEAD"}:
            assert answer.status_code in {200, 404}, (method, path)
        else:
            assert (answer.status_code, answer.get_json()["code"]) == (403, "role_not_allowed"), (method, path)
    others = [rule for rule in app.url_map.iter_rules() if not rule.endpoint.startswith("pages.")]
    assert all((rule.methods or set()) <= {"GET", "HEAD"} for rule in others if not rule.rule.startswith("/manage/"))


def test_every_operation_that_writes_says_that_a_viewer_may_not() -> None:
    operations = [
        (method, operation["responses"])
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
        if path.startswith("/manage/") and method in {"get", "post", "put", "patch", "delete"}
    ]
    assert all(("403" in answers) == (method != "get") and "429" in answers for method, answers in operations)


@pytest.mark.parametrize("method", ["OPTIONS", "BREW", "TRACE", "PATCH"])
def test_a_viewer_is_refused_with_every_other_method_on_every_path(viewer: FlaskClient, method: str) -> None:
    for path in PATHS:
        assert viewer.open(path, method=method).status_code == 403


def test_no_answer_to_a_viewer_has_the_value_of_a_token(
    app: flask.Flask, viewer: FlaskClient, client: FlaskClient, project_id: str
) -> None:
    token = client.post("/manage/tokens", json={"project_id": project_id}).get_json()
    rotated = client.post(f"/manage/tokens/{token['id']}/rotate", json={"grace_seconds": 60}).get_json()
    values = (token["token"], rotated["token"])
    ids = (token["id"], token["project_id"], *values)
    read = [path.removeprefix("|") for method, path in routes(app) if method == "GET" and "/manage/" in path]
    for path in {path.replace(SOMETHING, each) for path in read for each in ids}:
        answer = viewer.get(path)
        assert not any(value in answer.text for value in values), path
    for path in ("/manage/tokens", f"/manage/tokens/{token['id']}", f"/manage/tokens/{values[0]}"):
        assert UNREADABLE in viewer.get(path).text
    assert viewer.get(f"/manage/audit?format=jsonl&objectId={token['id']}").text.count("replaced") == 1


def test_a_store_that_does_not_answer_is_no_fault_of_the_token(
    anyone: FlaskClient, token: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise StoreUnavailable

    monkeypatch.setattr(store.database, "read", fail)
    for sent in (token, "wrong", f"llmp_admin_{'0' * 48}"):
        answer = anyone.get("/manage/projects", headers={"Authorization": f"Bearer {sent}"})
        assert (answer.status_code, answer.get_json()["code"]) == (503, "store_unavailable")
