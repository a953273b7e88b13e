"""A canary key and a canary token, in every place where a secret could appear: the key is found at the one
right upstream and nowhere else, the token in what the client sent and nowhere else, and those of administrators, the
management token and the encryption key nowhere. `tests/manage_api/cli/test_secrets.py` searches all commands.

`tests/soak/test_canary_without.py` removes each protection, and checks that this test notices.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.attacks import canary
from support.attacks.canary import KEY, MARK, WORD, Run, forms
from support.gateway.gateway import ENCRYPTION_KEY, MANAGEMENT_TOKEN
from support.stores.postgresql import Server
from support.upstreams.upstreams import DemoUpstream

SHOWN_IN_MITMWEB = {
    *("polls", "updates", "flows/dump", "file saved.har"),
    *("export curl", "export httpie", "export raw", "export raw_request"),
    *("file exported.curl", "file exported.httpie", "file exported.raw", "file exported.raw_request"),
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoUpstream]:
    with DemoUpstream.start(tmp_path_factory.mktemp("demo"), key=KEY) as demo:
        yield demo


def check(run: Run, shown: set[str]) -> None:
    """Check that all places were searched, that none of them has a secret, and that the upstream has the key."""
    print({where: f"{count} pieces, {size} bytes" for where, (count, size) in run.net.sizes().items()})
    assert shown <= run.net.holding(MARK.encode())
    assert run.net.holding(*forms(KEY)) == set()
    assert run.net.holding(*forms(run.token)) == set()
    assert run.admin_tokens
    assert run.net.holding(*(form for token in run.admin_tokens for form in forms(token))) == set()
    assert run.net.holding(*forms(MANAGEMENT_TOKEN), *forms(ENCRYPTION_KEY)) == set()
    operators = {"audit", "viewer", "commands of the store", "pages", "pages of a viewer"}
    assert operators <= run.net.holding(MARK.encode())
    assert f"Bearer {KEY}\r\n".encode() in run.received
    assert not any(form in run.received for form in [*forms(run.token), b"***"])
    assert "answers" in run.net.holding(b"upstream_key_rejected")
    assert "metrics" in run.net.holding(b"llm_proxy_tokens_total{")
    logs = run.net.holding(WORD.encode())
    assert logs
    assert all(where.endswith(".log") for where in logs), logs


def test_mitmweb_shows_no_secret(tmp_path: Path, demo: DemoUpstream) -> None:
    run = canary.run_in_mitmweb(tmp_path, demo)
    check(run, SHOWN_IN_MITMWEB)
    assert run.elsewhere == b""
    assert run.outcomes == {
        "replayed": 200,
        "counted": 2,
        "replayed elsewhere": 403,
        "edited": 200,
        "led away": 403,
        "wire in the log": 400,
    }


@pytest.mark.soak("addon")
def test_mitmdump_before_a_tls_upstream_writes_no_secret(tmp_path: Path, demo: DemoUpstream) -> None:
    check(canary.run_in_mitmdump(tmp_path, demo), {"file mitmdump.log", "file flows", "file dumped.har"})


@pytest.mark.soak("addon")
def test_the_launcher_writes_no_secret(tmp_path: Path, demo: DemoUpstream) -> None:
    check(canary.run_in_launcher(tmp_path, demo), set())


@pytest.mark.soak("addon", "store/database", "manage_api")
@pytest.mark.parametrize("way", ["launcher", "mitmweb", "mitmdump"])
def test_no_way_writes_a_secret_on_postgresql(
    tmp_path: Path, demo: DemoUpstream, postgresql_server: Server, way: str
) -> None:
    runs = {"launcher": canary.run_in_launcher, "mitmweb": canary.run_in_mitmweb, "mitmdump": canary.run_in_mitmdump}
    url = postgresql_server.make_database()
    run = runs[way](tmp_path, demo, {"database_url": url})
    run.net.add_database(url)
    check(run, {"database"})
