"""`llm-proxy token`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.openapi import DOCUMENT
from support.stores.ledger import settle_request
from support.stores.stores import API_KEY, make_settings, make_token, opened, rows, set_columns

from manage_api.cli import table
from manage_api.cli.commands import main
from store import clock
from store.management.projects import Projects
from store.store import Store

RULES = {
    "rate_limits": [{"requests": 60, "per": "minute"}, {"tokens": 100_000, "per": "hour"}],
    "budgets": [{"usd": "2.50", "per": "day"}, {"usd": "100", "per": "total"}],
    "max_parallel_requests": 8,
    "allowed_models": ["gpt-4o*", "gpt-5"],
    "allowed_endpoints": ["POST /v1/chat/completions", "* /v1/files*"],
    "allowed_ips": ["10.0.0.0/8"],
}
OPTIONS = [
    *("--limit", "60/minute", "--limit", "100000tokens/hour", "--budget", "2.50/day", "--budget", "$100/total"),
    *("--parallel", "8", "--model", "gpt-4o*", "--model", "gpt-5", "--ip", "10.0.0.0/8"),
    *("--endpoint", "POST /v1/chat/completions", "--endpoint", "* /v1/files*"),
]


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    """A store with the project Search. A command opens it for itself: change it by commands after the first one."""
    with opened(make_settings(folder)) as store:
        Projects(store).create("Search", API_KEY)
        yield store


def run(*arguments: str, answers: str = "") -> Result:
    return CliRunner().invoke(main, ["token", *arguments], input=answers)


def shown(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


@pytest.mark.usefixtures("store")
def test_a_token_is_created_with_all_limits_and_policies_and_shown() -> None:
    made = shown("create", "Nightly index", "--project", "Search", "--max-requests", "1000", *OPTIONS)
    assert {name: made[name] for name in RULES} == RULES
    assert (made["name"], made["project_name"], made["max_requests"]) == ("Nightly index", "Search", 1000)
    again = shown("show", "Nightly index")
    assert {**made, "usage": again["usage"]} == again
    assert again.keys() == DOCUMENT["components"]["schemas"]["Token"]["properties"].keys()
    text = run("show", made["id"]).stdout
    for line in (
        f"token            {made['token']}",
        "requests         0 of 1,000",
        "models           gpt-4o*, gpt-5",
    ):
        assert line in text
    assert [line.split()[:2] for line in text.splitlines()[-11:-6]] == [
        ["usd/total", "100"],
        ["usd/day", "2.5"],
        ["requests/minute", "60"],
        ["tokens/hour", "100,000"],
        ["parallel", "8"],
    ]


@pytest.mark.usefixtures("store")
def test_an_update_changes_what_it_names_and_removes_in_one_way() -> None:
    made = shown("create", "Ann", "--project", "Search", "--max-requests", "9", *OPTIONS)
    del made["token"]
    changed = shown("update", "Ann", "--limit", "5/second", "--name", "Ben", "--parallel", "3")
    five = {"rate_limits": [{"requests": 5, "per": "second"}], "max_parallel_requests": 3, "name": "Ben"}
    assert {**changed, "limits": 0} == {**made, **five, "limits": 0}
    removals = [
        f"--no-{name}" for name in ("limit", "budget", "parallel", "model", "endpoint", "ip", "max-requests", "name")
    ]
    bare = shown("update", made["id"], *removals)
    assert {bare[name] for name in (*RULES, "name")} == {None}
    assert (bare["max_requests"], bare["limits"]) == (0, [])


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("12h", 43_200), ("30d", 2_592_000), ("2100-01-01", None), ("never", None)]
)
def test_an_expiry_is_a_duration_a_date_or_never(text: str, seconds: int | None) -> None:
    for arguments in (("create", "One", "--project", "Search"), ("update", "One")):
        expires_at = shown(*arguments, "--expires", text)["expires_at"]
        if seconds is None:
            assert expires_at == {"never": "9999-12-31T23:59:59Z"}.get(text, "2100-01-01T00:00:00Z")
        else:
            assert 0 <= clock.now() / clock.SECOND + seconds - clock.from_rfc3339(expires_at) / clock.SECOND < 20


def test_tokens_are_listed_without_their_values(store: Store) -> None:
    other = Projects(store).create("Other", API_KEY)
    old = make_token(store, name="Old", project_id=other.id, max_requests=5)
    soon = make_token(store, name="Soon", project_id=other.id, expires_in_days=3)
    for column in ("created_at", "expires_at", "last_used_at"):
        set_columns(store, "token", old.id, **{column: clock.from_rfc3339("2026-01-02T03:04:05Z")})
    set_columns(store, "token", soon.id, created_at=clock.from_rfc3339("2026-02-02"))
    assert run("list").stdout.splitlines() == [
        "name  project  status   expires (UTC)     requests  last used (UTC)   id",
        f"Soon  Other    active   {table.moment(soon.expires_at)}         0  -                 {soon.id}",
        f"Old   Other    expired  2026-01-02 03:04    0 of 5  2026-01-02 03:04  {old.id}",
    ]
    assert [token["name"] for token in shown("list", "--project", "Other", "--active")] == ["Soon"]
    assert [token["name"] for token in shown("list", "--expires-before", "7d")] == ["Soon", "Old"]
    assert [token["name"] for token in shown("list", "--expires-before", "2026-02-01")] == ["Old"]
    assert shown("list", "--project", "Search") == []
    assert all("token" not in token for token in shown("list"))


def test_a_name_of_several_is_refused_with_the_candidates(store: Store) -> None:
    first, second = (make_token(store, name="Same") for _ in range(2))
    for verb in (["show"], ["update", "--no-limit"], ["revoke", "--yes"], ["rotate", "--yes"]):
        result = run(*verb, "Same")
        assert (result.exit_code, result.stdout) == (4, "")
        assert "2 tokens have this name. Give the id:\n\nid " in result.stderr
        assert f"\n{first.id}  Tests    " in result.stderr
        assert f"\n{second.id}  Tests    " in result.stderr
    assert all(row["is_active"] for row in rows(store, "token"))
    assert shown("show", second.id.upper())["id"] == second.id
    assert shown("show", second.value)["id"] == second.id


def test_a_revoke_asks_and_an_update_restores(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_token(store, name="Ann")
    without = run("revoke", "Ann")
    assert (without.exit_code, "refused from now on. Without a terminal to ask at" in without.stderr) == (2, True)
    with monkeypatch.context() as patch:
        patch.setattr("manage_api.cli.asking._is_terminal", lambda: True)
        refused = run("revoke", "Ann", answers="n\n")
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert shown("show", "Ann")["is_active"] is True
        assert run("revoke", "Ann", answers="y\n").stdout.startswith(f"Revoked: token Ann ({made.id}).")
    assert shown("show", "Ann")["is_active"] is False
    assert run("rotate", "Ann", "--yes").exit_code == 1
    assert shown("update", "Ann", "--restore")["is_active"] is True
    assert shown("revoke", "Ann", "--yes")["is_active"] is False


def test_a_rotation_asks_only_without_a_grace(store: Store) -> None:
    made = make_token(store, name="Ann")
    assert run("rotate", "Ann").exit_code == 2
    graced = shown("rotate", "Ann", "--grace", "1d")
    assert graced["token"] != made.value
    assert graced["previous_expires_at"] is not None
    assert shown("show", made.value)["token"] == graced["token"]
    assert "value before ends (UTC)" in run("show", "Ann").stdout
    at_once = shown("rotate", "Ann", "--yes")
    assert (at_once["token"] != graced["token"], at_once["previous_expires_at"]) == (True, None)


def test_usage_is_shown_with_a_token(store: Store) -> None:
    made = make_token(store, name="Ann")
    settle_request(store, project_id=made.project_id, token_id=made.id)
    assert shown("show", "Ann")["usage"]["requests"] == 1
    assert "\nUsage since the ledger began:\nrequests    1\nunknown     1\n" in run("show", "Ann").stdout


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["update", "Ann"], 2, "Nothing is to be changed: name an option."),
        (["update", "Ann", "--limit", "1/day", "--no-limit"], 2, "--limit and --no-limit exclude each other."),
        (["update", "Ann", "--limit", "x"], 2, "such as 60/minute or 100000tokens/hour"),
        (["update", "Ann", "--budget", "lots"], 2, "such as 100/month"),
        (["update", "Ann", "--parallel", "-1"], 2, "expected a whole number"),
        (["update", "Ann", "--expires", "0d"], 2, "expected never, or a time such as"),
        (["create"], 2, "Missing option '--project'"),
        (["create", "--project", "None"], 2, "Invalid value for '--project': no project has this name or id."),
        (["show", "None"], 2, "Invalid value for 'TOKEN': no token has this name, id or value."),
        (["update", "Ann", "--limit", "1/day", "--limit", "0/day"], 1, "--limit (value 2) must be at least 1."),
        (["update", "Ann", "--limit", "1/day", "--limit", "2/day"], 1, "--limit (value 2) is for the same window"),
        (["update", "Ann", "--limit", "1/year"], 1, "--limit (value 1) must be one of second, minute, hour, day."),
        (["update", "Ann", "--budget", "0/day"], 1, "--budget (value 1) must be a text such as"),
        (["update", "Ann", "--model", " gpt-4o"], 1, "--model (value 1) must be a model's name: 1 to 128 printable"),
        (["update", "Ann", "--endpoint", "/v1/files"], 1, "--endpoint (value 1) must be a method"),
        (["update", "Ann", "--ip", "10.0.0.1/8"], 1, "--ip (value 1) must be an address"),
        (["update", "Ann", "--name", ""], 1, "The name must not be empty."),
        (["update", "Ann", "--name", "a\nb"], 1, "The name must have a visible character"),
        (["update", "Ann", "--max-requests", "9" * 20], 1, "--max-requests must be at most 9223372036854775807."),
        (["create", "--project", "Search", "--expires", "2020-01-01"], 1, "--expires must be in the future"),
        (["rotate", "Ann", "--grace", "31d"], 1, "--grace must be at most 2592000."),
    ],
)
def test_what_a_rule_refuses_ends_with_1_and_a_bad_command_line_with_2(
    arguments: list[str], status: int, message: str
) -> None:
    before = shown("create", "Ann", "--project", "Search")
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr
    assert {**shown("show", "Ann"), "usage": 0} == {**before, "usage": 0}


def test_a_token_of_an_inactive_project_is_refused_with_advice(store: Store) -> None:
    project = Projects(store).create("Off", API_KEY)
    Projects(store).update(project.id, {"is_active": False})
    result = run("create", "--project", "Off")
    assert (result.exit_code, result.stderr) == (
        1,
        "Project is inactive: Switch the project on before you make tokens for it.\n",
    )
