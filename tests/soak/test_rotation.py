"""`kill -9`, and signals, in the middle of `llm-proxy rotate`; again and again on the same store, which is in use.

After each, all is read and admitted as before, and the next rotation continues from there. After one that ends, its
key alone opens the store, and the next goes back to the other key.
`./run.sh soak -s tests/soak/test_rotation.py` prints the table.
"""

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.gateway.gateway import Gateway, bearer
from support.gateway.processes import Process, tool
from support.stores.stores import make_many_tokens, make_settings, opened
from support.upstreams.upstreams import KEY, DemoUpstream

from store.encryption.crypto import KeyRing, new_key
from store.errors import StartupError
from store.operations.opening import open_store

pytestmark = pytest.mark.soak("store/encryption", "store/operations")

ROUNDS = 150
TOKENS = 3000
LONGEST = 1.2
"""Seconds after its start at which a rotation is killed at the latest; some end before."""

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    ring = f"{new_key()},{new_key()}"
    with (
        DemoUpstream.start(tmp_path) as upstream,
        Gateway.start(tmp_path, upstream.url, LOG_LEVEL="warning", ENCRYPTION_KEY=ring) as gateway,
    ):
        yield gateway


def test_a_rotation_killed_at_any_moment_loses_nothing(tmp_path: Path, gateway: Gateway) -> None:
    ring = gateway.env["ENCRYPTION_KEY"].split(",")
    token = gateway.make_token()
    with opened(make_settings(tmp_path, encryption_key=",".join(ring))) as store:
        make_many_tokens(store, token["project_id"], TOKENS - 1)
    listed = values(gateway)
    ends = 0
    ring.reverse()
    for number in range(1, ROUNDS + 1):
        status = rotate_and_kill(gateway, ring)
        path = f"/manage/projects/{token['project_id']}"
        httpx.get(f"{gateway.url}/v1/models", headers=bearer(token)).raise_for_status()
        gateway.manage("PATCH", path, {"api_key": KEY}).raise_for_status()  # under the first key of the gateway
        httpx.get(f"{gateway.url}/v1/models", headers=bearer(token)).raise_for_status()
        assert gateway.token(token["id"])["request_count"] == 2 * number
        assert values(gateway) == listed
        done = count_done(tmp_path, ring)
        print(f"round {number:3}: status {status:3}, {done:4} of {TOKENS} tokens under the first key")
        if status == 0:
            ends += 1
            assert done == TOKENS
            check_alone(tmp_path, ring)
            ring.reverse()
    print(f"{ends} of {ROUNDS} came to their end")
    assert 0 < ends < ROUNDS


def rotate_and_kill(gateway: Gateway, ring: list[str]) -> int:
    """Start a rotation, end it at some moment by some signal, and return its exit status."""
    env = {**gateway.env, "ENCRYPTION_KEY": ",".join(ring)}
    process = Process([tool("llm-proxy"), "rotate"], env=env, log=gateway.folder / "rotate.log")
    time.sleep(random.uniform(0, LONGEST))  # noqa: S311 - no secret; the moment is the point
    process.signal(random.choice(SIGNALS))  # noqa: S311 - no secret
    return process.wait()


def values(gateway: Gateway) -> set[tuple[str, str]]:
    tokens = gateway.manage("GET", "/manage/tokens").raise_for_status().json()
    return {(token["id"], token["token"]) for token in tokens}


def count_done(folder: Path, ring: list[str]) -> int:
    with opened(make_settings(folder, encryption_key=",".join(ring))) as store:
        header = KeyRing.parse(ring[0]).first_header
        select = "SELECT count(*) FROM token WHERE substr(sealed_value, 1, 5) = ?"
        ((count,),) = store.database.execute(select, [header])
        return int(count)


def check_alone(folder: Path, ring: list[str]) -> None:
    with opened(make_settings(folder, encryption_key=ring[0])):
        pass
    with pytest.raises(StartupError, match="does not open this store"):
        open_store(make_settings(folder, encryption_key=ring[1]))
