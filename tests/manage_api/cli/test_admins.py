import json
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.stores.stores import make_settings, opened, rows

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
    made = run("admin", "create", "ops", "--role", "admin")
    token = made.stdout.splitlines()[-1]
    assert (name_of(folder, token), made.stdout.count(token)) == ("ops", 1)
    listed = run("admin", "list").stdout
    assert [line.split()[:3] for line in listed.splitlines()] == [
        ["name", "role", "enabled"],
        ["root", "admin", "yes"],
        ["ops", "admin", "yes"],
    ]
    for action in ("disable", "enable"):
        assert run("admin", action, "root").stdout == f"The administrator root is {action}d.\n"
    assert run("admin", "delete", "ops", answer="n\n").exit_code == 1
    assert name_of(folder, token)
    assert run("admin", "delete", "ops", "--yes").stdout == "The administrator ops is deleted.\n"
    assert name_of(folder, token) is None
    assert actors(folder) == {USER}
    assert token not in listed


def test_refused_commands_say_why(folder: Path) -> None:
    for arguments, message in (
        (("disable", "root"), "no other enabled administrator"),
        (("delete", "root", "--yes"), "cannot be deleted"),
        (("enable", "none"), "no administrator of this name"),
        (("create", "root", "--role", "viewer"), "choose another one"),
        (("create", "a b", "--role", "viewer"), "letters, digits"),
    ):
        done = run("admin", *arguments)
        assert (done.exit_code, done.stdout) == (1, "")
        assert message in done.stderr
    assert run("admin", "create", "ops").exit_code == 2
    assert actors(folder) == set()


def test_the_audit_is_listed_as_a_table_and_as_json_lines() -> None:
    made = json.loads(run("admin", "create", "ops", "--role", "viewer", "--json").stdout)
    assert (made["name"], json.loads(run("admin", "list", "--json").stdout)[1]["id"]) == ("ops", made["id"])
    run("admin", "create", "other", "--role", "admin")
    (line,) = run("audit", "--object", made["id"], "--json").stdout.splitlines()
    assert json.loads(line)["changes"]["role"] == {"before": None, "after": "viewer"}
    listed = run("audit", "--actor", USER, "--action", "admin.create", "--limit", "1").stdout
    title, row = listed.splitlines()
    assert title.split() == ["time", "actor", "action", "object", "changes"]
    assert f"{USER}  admin.create  other " in row
    assert 'role: - -> "admin"' in row
    assert made["token"] not in listed + line
    assert run("audit", "--action", "none").exit_code == 2
