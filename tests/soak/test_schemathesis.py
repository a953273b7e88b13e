"""schemathesis finds no fault in the real management process, with all requests that it makes from openapi.yaml.

All of its checks and phases, good data and bad, on an empty store and on a filled one.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.gateway.gateway import MANAGEMENT_TOKEN, Gateway
from support.gateway.processes import clean_environment, tool
from support.stores.ledger import NOON, open_request, settle_request
from support.stores.stores import make_settings, opened, set_columns

from manage_api.bodies import OPENAPI
from store.clock import DAY
from store.ledger.usage import Source
from store.store import Store

pytestmark = pytest.mark.soak("manage_api", "openapi.yaml")

HERE = Path(__file__).parent
EXAMPLES = 300
OPERATIONS = 23
"""Those of openapi.yaml, without the proxy's own."""
CASES = 2000
"""A run with fewer cases has not covered the API. One makes some 3,000."""


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path, "http://127.0.0.1:9", TRUSTED_PROXIES="127.0.0.1")
    try:
        gateway.start_management()
        yield gateway
    finally:
        gateway.stop()


@pytest.fixture
def filled(empty: Gateway) -> Gateway:
    """Projects on and off, with tokens that are active, revoked, expired, limited, used up, and damaged; requests."""
    active, inactive = (empty.make_project(name)["id"] for name in ("Active", "Inactive"))
    for project in (active, inactive):
        tokens = [empty.make_token(project, max_requests=number, expires_in_days=number) for number in range(6)]
        empty.manage("DELETE", f"/manage/tokens/{tokens[1]['id']}").raise_for_status()
        with opened(make_settings(empty.folder)) as store:
            set_columns(store, "token", tokens[2]["id"], expires_at=1)
            set_columns(store, "token", tokens[3]["id"], request_count=3, last_used_at=1)
            set_columns(store, "token", tokens[4]["id"], sealed_value=b"damaged")
            for number, token in enumerate(tokens):
                fill_ledger(store, {"project_id": project, "token_id": token["id"], "started_at": NOON + number * DAY})
        price = {"project_id": project, "model": "gpt-4o", "rates": {"input": "2.5"}}
        empty.manage("PUT", "/manage/prices", price).raise_for_status()
    empty.manage("PATCH", f"/manage/projects/{inactive}", {"is_active": False}).raise_for_status()
    return empty


def fill_ledger(store: Store, common: dict[str, Any]) -> None:
    """Add a request of each kind."""
    open_request(store, **common)
    settle_request(store, **common, endpoint="/v1/models")
    known = {"usage_source": Source.OBSERVED, "model": "gpt-4o", "input_tokens": 5, "streamed": True}
    settle_request(store, **common, **known, cost=43_500_000, price='{"input": "2.5"}', upstream_request_id="req_1")


def run(gateway: Gateway, seed: int) -> dict[str, Any]:
    """Run schemathesis, and return its report."""
    report = gateway.folder / "report.json"
    command = [
        *(tool("schemathesis"), "--config-file", str(HERE / "schemathesis.toml"), "run", str(OPENAPI)),
        *("--url", gateway.manage_url, "--include-path-regex", "^/(health|manage)"),
        *("--header", f"Authorization: Bearer {MANAGEMENT_TOKEN}", "--seed", str(seed)),
        *("--max-examples", str(EXAMPLES), "--report", "json", "--report-json-path", str(report)),
    ]
    env = {**clean_environment(), "SCHEMATHESIS_HOOKS": str(HERE / "schemathesis_checks.py")}
    done = subprocess.run(command, cwd=gateway.folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(report.read_text())
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("store", ["empty", "filled"])
def test_schemathesis_finds_nothing(request: pytest.FixtureRequest, store: str, seed: int) -> None:
    gateway: Gateway = request.getfixturevalue(store)
    report = run(gateway, seed)
    print(f"{store} {seed}: {report['test_cases']}, {report['operations']}, {sorted(report['phases'])}")
    assert (report["complete"], report["failures"], report["errors"]) == (True, [], [])
    assert report["operations"]["tested"] == report["operations"]["selected"] == OPERATIONS
    assert {name: phase["status"] for name, phase in report["phases"].items()} == dict.fromkeys(
        ("examples", "coverage", "fuzzing", "stateful"), "success"
    )
    assert report["test_cases"]["generated"] >= CASES
    assert '"status": 5' not in gateway.logs()
    assert "Traceback" not in gateway.logs()
