"""Canaries, looked for in every output of the commands, on each store.

A token's value is where it is asked for, an administrator's where it is made; all other secrets are nowhere.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from support.attacks.canary import KEY, Net, forms
from support.stores.ledger import refuse_request, settle_request
from support.stores.stores import make_settings, opened

from manage_api.cli.commands import SECTIONS, main
from store.encryption.crypto import new_key
from store.management.projects import Projects
from store.management.tokens import TokenRecord, Tokens
from store.store import Store

OTHER_KEY = "sk-canary-another-0d1f6b7a"
MANAGEMENT_TOKEN = "canary-of-the-management-token-51f2c0"
ENCRYPTION_KEY = new_key()
PASSWORD = "canary-of-the-database-93ae"


@pytest.fixture
def store(folder_of_each_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    for name, secret in (("MANAGEMENT_TOKEN", MANAGEMENT_TOKEN), ("ENCRYPTION_KEY", ENCRYPTION_KEY)):
        monkeypatch.setenv(name, secret)
    settings = make_settings(folder_of_each_store)
    monkeypatch.setenv("DATABASE_URL", settings.database_url.replace("postgres@", f"postgres:{PASSWORD}@"))
    (folder_of_each_store / "usage.csv").write_text("day,usd\n2026-11-25,1.00\n")
    with opened(make_settings(folder_of_each_store)) as store:
        yield store


@pytest.fixture
def token(store: Store) -> TokenRecord:
    project = Projects(store).create("Search", KEY)
    token = Tokens(store).create(project.id, name="Ann")
    about = {"project_id": project.id, "token_id": token.id}
    settle_request(store, **about, upstream_request_id="req_1")
    refuse_request(store, **about)
    return token


def run(net: Net, where: str, arguments: Sequence[str], given: str = "") -> int:
    """Run a command, and keep its outputs under a name. Returns the exit status."""
    result = CliRunner().invoke(main, arguments, input=given)
    net.add(where, result.stdout, result.stderr)
    return result.exit_code


def run_well(net: Net, where: str, arguments: Sequence[str]) -> str:
    """Run a command, keep its output under a name, and return it."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    net.add(where, result.stdout, result.stderr)
    return result.stdout


def all_commands() -> set[tuple[str, ...]]:
    """Return the words of each command but those that start the gateway."""
    context = click.Context(main)
    names = [name for title, section in SECTIONS.items() if title != "The gateway" for name in section]
    commands = {name: main.get_command(context, name) for name in names}
    found = {(name,) for name, command in commands.items() if not isinstance(command, click.Group)}
    groups = [(name, command) for name, command in commands.items() if isinstance(command, click.Group)]
    return found | {(name, inner) for name, group in groups for inner in group.commands}


def commands_that_show_no_secret(token: str, number: int) -> Iterator[tuple[list[str], str]]:
    """Yield command lines, and their standard input; the number makes files of their own."""
    for line in (
        *("project list", "project show Search", "project update Search --disable", "project update Search --enable"),
        *("token list", "token update Ann --limit 1/day", f"token update {token} --no-limit"),
        *(f"token revoke {token} --yes", "token update Ann --restore"),
        *("price set --project Search --input 1", "price list", "price delete --project Search --yes"),
        *(f"usage --token {token}", "usage --by token", "request list", f"request list --token {token}"),
        *(
            "requests --project Search",
            "request show req_1",
            "request req_1",
            "reconcile usage.csv --day day --cost usd",
        ),
        *("admin list", "admin disable bea", "admin enable bea", "admin delete bea --yes"),
        *("audit", f"audit --object {token}", "audit --object Search", f"audit --actor {token}"),
        *("rotate", "migrate", "migrate --dry-run", f"backup copy{number}.db", f"copy --to sqlite:///other{number}.db"),
    ):
        yield line.split(), ""
    yield ["project", "update", "Search", "--key"], f"{OTHER_KEY}\n"
    yield ["project", "create", f"Other{number}"], f"{OTHER_KEY}\n"
    yield ["project", "delete", f"Other{number}", "--yes"], ""


def commands_that_are_refused(token: str) -> Iterator[list[str]]:
    for line in (
        *(f"token {token}", f"project show {token}", f"token list --project {token}", f"token revoke {token}"),
        *(f"token rotate {token}", f"project create x {KEY}", f"project update Search --key {KEY}"),
        *(f"token update Ann --name {KEY}", KEY, f"--{KEY}", f"token update Ann --{KEY}", f"usage --format {token}"),
        *(f"usage --since {KEY}", f"token update Ann --limit {KEY}", f"token update Ann --ip {KEY}"),
        *(f"token update Ann --endpoint {KEY}", f"token update Ann --budget {KEY}", f"token create --project {KEY}"),
        *(f"request list --usage={token}", f"token update Ann --restore={KEY}", f"price set --model m --input {KEY}"),
        *(f"request {token}", f"price delete {token}"),
        *(f"admin create {KEY} --role admin", f"admin create x --role {KEY}", f"admin delete {KEY} --yes"),
        *(f"admin disable {token}", f"audit --action {KEY}", f"audit --object {KEY}", f"audit --limit {KEY}"),
        *(f"rotate {KEY}", f"migrate {KEY}", f"copy --to {KEY}", f"copy --to postgresql://u:{KEY}@127.0.0.1:9/x"),
        *(f"reconcile usage.csv --day {KEY} --cost usd", f"backup a {KEY}", "admin disable root", "token rotate Ann"),
    ):
        yield line.split()


def made(net: Net, command: str) -> str:
    """Run a command that shows a secret, as text, and then as JSON; return the secret of the second time."""
    name = " ".join(command.split()[:2])
    run_well(net, name, command.split())
    secret: str = json.loads(run_well(net, name, [*command.split(), "--json"]))["token"]
    return secret


@pytest.mark.parametrize(
    "folder_of_each_store",
    ["sqlite", pytest.param("postgresql", marks=pytest.mark.soak("manage_api/cli"))],
    indirect=True,
)
def test_secrets_are_only_where_they_are_asked_for(token: TokenRecord) -> None:
    net = Net()
    ran: set[tuple[str, ...]] = {("token", "create"), ("token", "rotate"), ("token", "show"), ("admin", "create")}
    shown = {secret: set[str]() for secret in (KEY, OTHER_KEY, MANAGEMENT_TOKEN, ENCRYPTION_KEY, PASSWORD, token.value)}
    shown[made(net, "token create Bob --project Search")] = {"token create"}
    run_well(net, "token rotate", ["token", "rotate", "Ann", "--yes"])
    old = made(net, "token show Ann")
    new = json.loads(run_well(net, "token rotate", ["token", "rotate", "Ann", "--grace", "1d", "--json"]))["token"]
    assert made(net, "token show Ann") == new
    shown |= {value: {"token rotate", "token show"} for value in (old, new)}
    for more in ([], ["--json"]):
        create = ["admin", "create", "--role", "viewer"]
        shown[run_well(net, "admin create", [*create, f"cleo{len(more)}"]).split()[-1]] = {"admin create"}
        shown[json.loads(run_well(net, "admin create", [*create, "bea", "--json"]))["token"]] = {"admin create"}
        for arguments, given in commands_that_show_no_secret(old, len(more)):
            status = run(net, "others", [*arguments, *more], given)
            assert status == 0 or arguments[0] in {"backup", "reconcile"}, arguments
            ran |= {(*arguments[:1],), (*arguments[:2],)}
    assert all_commands() <= ran
    for arguments in commands_that_are_refused(old):
        assert run(net, "errors", arguments) != 0, arguments
    for secret, places in shown.items():
        assert net.holding(*forms(secret)) == places
    assert net.holding(b"Search", b"No such") >= {"others", "errors"}
