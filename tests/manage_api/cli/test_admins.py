import json
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.stores.stores import API_KEY, make_settings, opened, rows

from manage_api.cli.commands import main
from store.management import audit
from store.management.admins import Admins

USER = f"cli:{pwd.getpwuid(os.getuid()).pw_name}"


@pytest.fixture(autouse=True)
def _store(folder: Path) -> Iterator[None]:
    with opened(make_settings(folder)):
        pass
    yield
    audit.begin(audit.UNKNOWN)


def name_of(folder: Path, token: str) -> str | None:
    with opened(make_settings(folder)) as store:
        admin = Admins(store).of_token(token)
        return admin.name if admin else None


def actors(folder: Path) -> set[str]:
    with opened(make_settings(folder)) as store:
        return {row["actor"] for row in rows(store, "audit")}


def run(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=answer)


def test_an_administrator_is_created_listed_disabled_and_deleted(folder: Path) -> None:
    made = run("admin", "create", "ops", "--role", "admin").stdout
    admin_id, token = made.splitlines()[-2].split()[-1], made.splitlines()[-1].split()[-1]
    assert (name_of(folder, token), made.count(token)) == ("ops", 1)
    listed = run("admin", "list").stdout
    assert [line.split()[:3] for line in listed.splitlines()] == [
        ["name", "role", "enabled"],
        ["root", "admin", "yes"],
        ["ops", "admin", "yes"],
    ]
    for action, state in (("disable", "no"), ("enable", "yes")):
        assert f"enabled        {state}\n" in run("admin", action, "root").stdout
    assert "enabled        no\n" in run("admin", "disable", admin_id).stdout
    assert run("admin", "delete", admin_id, "--yes").stdout == "Deleted: administrator ops.\n"
    assert name_of(folder, token) is None
    assert actors(folder) == {USER}
    assert token not in listed


def test_the_deletion_of_an_administrator_asks_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = json.loads(run("admin", "create", "ops", "--role", "admin", "--json").stdout)["token"]
    refused = run("admin", "delete", "ops")
    assert (refused.exit_code, "needs --yes" in refused.stderr) == (2, True)
    monkeypatch.setattr("manage_api.cli.asking._is_terminal", lambda: True)
    assert run("admin", "delete", "ops", answer="n\n").exit_code == 1
    assert name_of(folder, token) == "ops"
    assert run("admin", "delete", "ops", answer="y\n").exit_code == 0
    assert name_of(folder, token) is None


def test_every_command_writes_json() -> None:
    made = json.loads(run("admin", "create", "ops", "--role", "viewer", "--json").stdout)
    shown = {name: value for name, value in made.items() if name != "token"}
    assert json.loads(run("admin", "list", "--json").stdout)[1] == shown
    for action, is_active in (("disable", False), ("enable", True)):
        assert json.loads(run("admin", action, "ops", "--json").stdout) == shown | {"is_active": is_active}
    assert json.loads(run("admin", "delete", "ops", "--yes", "--json").stdout) == shown


def test_refused_commands_say_why(folder: Path) -> None:
    for arguments, status, message in (
        (("disable", "root"), 1, "no other enabled administrator"),
        (("delete", "root", "--yes"), 1, "cannot be deleted"),
        (("enable", "none"), 2, "no administrator has this name or id. The administrators:"),
        (("create", "root", "--role", "viewer"), 1, "choose another one"),
        (("create", "a b", "--role", "viewer"), 1, "letters, digits"),
    ):
        done = run("admin", *arguments)
        assert (done.exit_code, done.stdout) == (status, "")
        assert message in done.stderr
    assert run("admin", "create", "ops").exit_code == 2
    assert actors(folder) == set()


def test_the_audit_is_listed_as_a_table_and_as_json() -> None:
    made = json.loads(run("admin", "create", "ops", "--role", "viewer", "--json").stdout)
    run("admin", "create", "other", "--role", "admin")
    (line,) = run("audit", "--object", made["id"], "--format", "jsonl").stdout.splitlines()
    assert json.loads(line)["changes"]["role"] == {"before": None, "after": "viewer"}
    assert json.loads(run("audit", "--object", "ops", "--json").stdout) == [json.loads(line)]
    listed = run("audit", "--actor", USER, "--action", "admin.create", "--limit", "1").stdout
    title, row = listed.splitlines()
    assert title.split() == ["time", "actor", "action", "object", "changes", "id"]
    assert f"{USER}  admin.create  other " in row
    assert 'role: - -> "admin"' in row
    assert made["token"] not in listed + line
    assert run("audit", "--action", "none").exit_code == 2


def test_the_audit_of_an_object_is_found_by_each_name_that_it_had() -> None:
    run("project", "create", "Old", answer=f"{API_KEY}\n")
    run("project", "update", "Old", "--name", "New")
    (found,) = json.loads(run("project", "list", "--json").stdout)
    actions = ["project.update", "project.create"]
    for given in ("Old", "New", found["id"]):
        rows = json.loads(run("audit", "--object", given, "--json").stdout)
        assert [row["action"] for row in rows] == actions, given
    run("project", "create", "New", answer=f"{API_KEY}\n")
    ambiguous = run("audit", "--object", "New")
    assert (ambiguous.exit_code, found["id"] in ambiguous.stderr) == (4, True)
    run("project", "delete", found["id"], "--yes")
    assert json.loads(run("audit", "--object", "Old", "--json").stdout)[0]["action"] == "project.delete"
    none = run("audit", "--object", "None")
    assert (none.exit_code, "nothing that was changed has this name" in none.stderr) == (2, True)


def test_the_audit_of_a_token_is_found_by_its_value() -> None:
    run("project", "create", "Search", answer=f"{API_KEY}\n")
    made = json.loads(run("token", "create", "--project", "Search", "--json").stdout)
    (row,) = json.loads(run("audit", "--object", made["token"], "--json").stdout)
    assert row["object_id"] == made["id"]


def test_the_tables_fit_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    run("admin", "create", "somebody-with-a-long-name@department.example", "--role", "viewer")
    for width in (100, 60):
        monkeypatch.setattr("manage_api.cli.table.terminal_width", lambda width=width: width)
        for command in (["audit"], ["admin", "list"]):
            assert max(map(len, run(*command).stdout.splitlines())) <= width
