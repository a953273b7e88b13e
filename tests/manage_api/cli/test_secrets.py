"""A canary key and a canary token, looked for in every output of the commands.

The token is where it is asked for, the key nowhere.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.attacks.canary import KEY, Net, forms
from support.stores.ledger import refuse_request, settle_request
from support.stores.stores import make_settings, opened

from manage_api.cli.commands import main
from store.management.projects import Projects
from store.management.tokens import TokenRecord, Tokens
from store.store import Store

OTHER_KEY = "sk-canary-another-0d1f6b7a"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with opened(make_settings(folder)) as store:
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


def test_no_output_holds_a_key_and_only_three_a_token(token: TokenRecord) -> None:
    net = Net()
    for arguments in (
        *(["project", "list"], ["project", "show", "Search"], ["project", "update", "Search", "--disable"]),
        *(
            ["project", "update", "Search", "--enable"],
            ["token", "list"],
            ["token", "update", "Ann", "--limit", "1/day"],
        ),
        *(["token", "update", token.value, "--no-limit"], ["token", "revoke", token.value, "--yes"]),
        *(["token", "update", "Ann", "--restore"], ["price", "set", "--project", "Search", "--input", "1"]),
        *(["price", "list"], ["price", "delete", "--project", "Search", "--yes"], ["usage", "--token", token.value]),
        *(["usage", "--by", "token"], ["request", "list"], ["request", "list", "--token", token.value]),
        *(["requests", "--project", "Search"], ["request", "req_1"]),
    ):
        assert run(net, "others", arguments) == 0, arguments
        run(net, "others", [*arguments, "--json"])
    assert run(net, "others", ["project", "update", "Search", "--key"], f"{OTHER_KEY}\n") == 0
    assert run(net, "others", ["project", "create", "Other"], f"{OTHER_KEY}\n") == 0
    for wrong in (
        *(["token", token.value], ["project", "show", token.value], ["token", "list", "--project", token.value]),
        *(["token", "revoke", token.value], ["token", "rotate", token.value], ["project", "create", "x", KEY]),
        *(["project", "update", "Search", "--key", KEY], ["token", "update", "Ann", "--name", KEY], [KEY]),
        *(["token", "update", "Ann", f"--{KEY}"], ["usage", "--format", token.value], ["usage", "--since", KEY]),
        *(["token", "update", "Ann", "--limit", KEY], ["token", "update", "Ann", "--ip", KEY], [f"--{KEY}"]),
        *(["request", "list", f"--usage={token.value}"], ["token", "update", "Ann", f"--restore={KEY}"]),
        *(["price", "set", "--model", "m", "--input", KEY], ["request", token.value], ["price", "delete", token.value]),
    ):
        assert run(net, "errors", wrong) != 0, wrong
    for shown in (["token", "show", "Ann"], ["token", "show", "Ann", "--json"]):
        assert run(net, "shown", shown) == 0
    assert net.holding(*forms(KEY), OTHER_KEY.encode()) == set()
    assert net.holding(*forms(token.value)) == {"shown"}
    assert net.holding(b"Search") >= {"others"}
    assert run(net, "rotated", ["token", "rotate", "Ann", "--grace", "1d"]) == 0
    assert net.holding(*forms(token.value)) == {"shown"}
