"""Projects: listed, made, changed, deleted; their tokens revoked."""

import uuid

import pytest
from support.clients.page_client import Browser
from support.stores.ledger import open_request, settle_request
from support.stores.stores import audited, make_many_tokens, make_token, rows

from store import clock
from store.clock import DAY
from store.ledger.usage import Source
from store.management.projects import ProjectRecord, Projects
from store.management.tokens import Tokens
from store.store import Store

HOSTILE = "<script>alert(1)</script>'\""
KEY = "sk-upstream-0123456789"
DOLLAR = 10**12


@pytest.fixture
def projects(store: Store) -> Projects:
    return Projects(store)


@pytest.fixture
def project(projects: Projects) -> ProjectRecord:
    return projects.create("Search", KEY)


def last_audited(store: Store) -> tuple[str, str, str | None]:
    row = audited(store)[-1]
    return row["actor"], row["action"], row["object_id"]


def test_a_list_shows_tokens_and_what_was_spent_this_month(browser: Browser, store: Store, projects: Projects) -> None:
    project_id = projects.create("Search", KEY, rate_limits=[{"requests": 60, "per": "minute"}]).id
    token = make_token(store, project_id=project_id)
    Tokens(store).revoke(make_token(store, project_id=project_id).id)
    asked = {"project_id": project_id, "token_id": token.id, "usage_source": Source.OBSERVED, "model": "m"}
    settle_request(store, **asked, started_at=clock.now(), cost=25 * DOLLAR)
    settle_request(store, **asked, started_at=clock.now() - 32 * DAY, cost=100 * DOLLAR)
    page = browser.open("/projects")
    assert "Search on 1 of 2 1 $25.00 60 requests a minute" in page.text
    assert browser.follow(page, "1").path == "/tokens"


def test_a_list_shows_the_budget_of_which_least_is_left(browser: Browser, store: Store, projects: Projects) -> None:
    project_id = projects.create("Search", KEY).id
    token = make_token(store, project_id=project_id)
    asked = {"project_id": project_id, "token_id": token.id, "usage_source": Source.OBSERVED, "model": "m"}
    settle_request(store, **asked, started_at=clock.now(), cost=30 * DOLLAR)
    projects.update(
        project_id,
        {"budgets": [{"usd": "1000", "per": "day"}, {"usd": "40", "per": "month"}, {"usd": "90", "per": "total"}]},
    )
    page = browser.open("/projects")
    assert "$30.00 of $40.00 a month" in page.text
    assert "75.0 % used" in page.html


def test_projects_are_found_by_a_part_of_the_name(browser: Browser, projects: Projects) -> None:
    for name in ("Search", "Research", "Billing"):
        projects.create(name, KEY)
    page = browser.open("/projects?q=SEARCH")
    assert ("Search" in page.links, "Research" in page.links, "Billing" in page.links) == (True, True, False)
    assert "No project has a name like this." in browser.open("/projects?q=none").text


def test_a_project_is_made_with_limits_in_words(browser: Browser, store: Store, projects: Projects) -> None:
    page = browser.send(
        browser.open("/projects/new"), "Create", name="New", api_key=KEY, budgets="$100 a month\r\n$5 a day"
    )
    assert "It is created." in page.text
    (made,) = projects.list()
    assert made.budgets == [{"usd": "100", "per": "month"}, {"usd": "5", "per": "day"}]
    assert last_audited(store) == ("root", "project.create", made.id)
    assert KEY not in page.html


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "“Name”"),
        ({"api_key": ""}, "“Upstream key”"),
        ({"api_key": "sk-admin-0123456789"}, "“Upstream key” begins"),
        ({"rate_limits": "1 request a minute\nx"}, "“Limits” (line 2)"),
        ({"allowed_ips": "x"}, "“Addresses” (line 1)"),
    ],
)
def test_a_bad_project_is_told(browser: Browser, store: Store, fields: dict[str, str], message: str) -> None:
    page = browser.send(browser.open("/projects/new"), "Create", **{"name": "New", "api_key": KEY, **fields})
    assert page.status == 400
    assert message in page.text
    assert KEY not in page.html
    assert rows(store, "project") == []


def test_a_page_shows_usage_limits_and_tokens(browser: Browser, store: Store, projects: Projects) -> None:
    project = projects.create("Search", KEY, max_parallel_requests=8, allowed_models=["gpt-4o"])
    make_many_tokens(store, project.id, 22)
    token = make_token(store, project_id=project.id, name="app")
    asked = {"project_id": project.id, "token_id": token.id, "usage_source": Source.OBSERVED}
    settle_request(store, **asked, started_at=clock.now(), model="gpt-4o", input_tokens=7)
    page = browser.open(f"/projects/{project.id}")
    assert "requests at once 0 0 8 8" in page.text
    assert "gpt-4o 1 0 7" in page.text
    assert page.html.count('href="/tokens/') == 21  # of which one makes a new token
    page = browser.follow(page, "All its tokens (23)")
    assert "1 to 23 of 23" in page.text


def test_names_are_text(browser: Browser, store: Store, projects: Projects) -> None:
    project = projects.create(HOSTILE, KEY)
    make_token(store, project_id=project.id, name=HOSTILE)
    for path in ("/projects", f"/projects?q={HOSTILE}", *(f"/projects/{project.id}{part}" for part in PARTS)):
        page = browser.open(path)
        assert page.status == 200
        assert "<script>alert" not in page.html


PARTS = ("", "/edit", "/delete", "/revoke")


def test_a_project_is_changed_and_its_key_replaced(browser: Browser, store: Store, project: ProjectRecord) -> None:
    page = browser.follow(browser.open(f"/projects/{project.id}"), "Change")
    page = browser.send(page, "Save", name="Renamed", is_active="off", api_key="sk-another-0123456789")
    assert "The changes are saved." in page.text
    changed = Projects(store).get(project.id)
    assert (changed.name, changed.is_active) == ("Renamed", False)
    assert last_audited(store) == ("root", "project.api_key.replace", project.id)


def test_an_unchanged_form_changes_nothing(browser: Browser, projects: Projects, project: ProjectRecord) -> None:
    browser.send(browser.open(f"/projects/{project.id}/edit"), "Save")
    assert projects.get(project.id) == project


@pytest.mark.parametrize("fields", [{"name": ""}, {"is_active": "maybe"}, {"budgets": "much"}])
def test_a_bad_change_is_told(
    browser: Browser, projects: Projects, project: ProjectRecord, fields: dict[str, str]
) -> None:
    page = browser.send(browser.open(f"/projects/{project.id}/edit"), "Save", **fields)
    assert page.status == 400
    assert projects.get(project.id) == project


def test_all_tokens_are_revoked_after_a_confirmation(browser: Browser, store: Store, project: ProjectRecord) -> None:
    tokens = [make_token(store, project_id=project.id, name=name) for name in ("app", "batch")]
    other = make_token(store)
    open_request(store, project_id=project.id, token_id=tokens[0].id)
    page = browser.follow(browser.open(f"/projects/{project.id}"), "Revoke all tokens …")
    assert "2 tokens work now, and 1 requests run." in page.text
    assert "app Search working never 0 1" in page.text
    page = browser.send(page, "Revoke 2 tokens")
    assert "All tokens of the project are revoked" in page.text
    assert [Tokens(store).get(each.id).is_active for each in (*tokens, other)] == [False, False, True]
    assert last_audited(store) == ("root", "project.tokens.revoke", project.id)
    page = browser.open(f"/projects/{project.id}/revoke")
    assert "No token of this project works now." in page.text


def test_more_tokens_than_a_page_are_counted(browser: Browser, store: Store, project: ProjectRecord) -> None:
    make_many_tokens(store, project.id, 60)
    page = browser.open(f"/projects/{project.id}/revoke")
    assert "and 10 more" in page.text
    browser.send(page, "Revoke 60 tokens")
    assert not any(row["is_active"] for row in rows(store, "token"))


def test_a_project_is_deleted_after_a_confirmation(browser: Browser, store: Store, project: ProjectRecord) -> None:
    make_token(store, project_id=project.id)
    page = browser.follow(browser.open(f"/projects/{project.id}"), "Delete the project …")
    assert "its tokens ( 1 )" in page.text
    assert "It is deleted." in browser.send(page, "Delete the project").text
    assert rows(store, "project") == rows(store, "token") == []
    assert last_audited(store) == ("root", "project.delete", project.id)


@pytest.mark.parametrize("part", PARTS)
def test_an_unknown_project_is_told(browser: Browser, part: str) -> None:
    page = browser.open(f"/projects/{uuid.uuid4()}{part}")
    assert (page.status, "There is no such project." in page.text) == (404, True)


def test_a_viewer_reads_and_sees_no_button_that_fails(viewer: Browser, store: Store, project: ProjectRecord) -> None:
    make_token(store, project_id=project.id)
    for path in ("/projects", f"/projects/{project.id}"):
        page = viewer.open(path)
        assert page.status == 200
        assert {button for form in page.forms for button in form.buttons} <= {"Log out", "Search"}
        assert not page.links.keys() & {"New project", "New token", "Change", "Revoke all tokens …"}


@pytest.mark.parametrize("path", ["new", "{}/edit", "{}/delete", "{}/revoke"])
def test_a_viewer_gets_no_form_and_changes_nothing(
    viewer: Browser, projects: Projects, project: ProjectRecord, path: str
) -> None:
    address = f"/projects/{path.format(project.id)}"
    mark = viewer.open("/projects").form("Log out").fields
    assert viewer.open(address).status == 403
    assert viewer.post(address, {**mark, "name": "new", "api_key": KEY}).status == 403
    assert projects.list() == [project]
