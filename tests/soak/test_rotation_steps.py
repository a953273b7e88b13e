"""The steps of docs/operations/key-rotation.md for several machines, one by one: no request fails."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from support.gateway.gateway import Gateway, bearer
from support.gateway.processes import Process, tool
from support.upstreams.upstreams import KEY, DemoUpstream

from store.encryption.crypto import new_key

pytestmark = pytest.mark.soak("store/encryption", "store/operations")

OLD, NEW = new_key(), new_key()
ROTATE = [tool("llm-proxy"), "rotate"]


def test_the_steps_for_several_machines_fail_no_request(tmp_path: Path) -> None:
    with (
        DemoUpstream.start(tmp_path) as upstream,
        Gateway.start(tmp_path, upstream.url, ENCRYPTION_KEY=OLD) as gateway,
    ):
        token = gateway.make_token()
        for ring in (f"{OLD},{NEW}", f"{NEW},{OLD}"):
            restart_one_by_one(gateway, ring, token)
        rotation = Process(ROTATE, env=gateway.env, log=tmp_path / "rotate.log")
        assert rotation.wait() == 0
        check(gateway, token)
        restart_one_by_one(gateway, NEW, token)


def restart_one_by_one(gateway: Gateway, ring: str, token: dict[str, Any]) -> None:
    """Give a ring to each process, and check after each that they work together."""
    gateway.env["ENCRYPTION_KEY"] = ring
    gateway.proxies[-1].process.stop()
    gateway.start_proxy()
    check(gateway, token)
    assert gateway.management is not None
    gateway.management.stop()
    gateway.start_management()
    check(gateway, token)


def check(gateway: Gateway, token: dict[str, Any]) -> None:
    """Write with the ring of one process, and let the other read both that and the older rows."""
    path = f"/manage/projects/{token['project_id']}"
    for known in (token, gateway.make_token()):
        httpx.get(f"{gateway.proxies[-1].url}/v1/models", headers=bearer(known)).raise_for_status()
    gateway.manage("PATCH", path, {"api_key": KEY}).raise_for_status()
    httpx.get(f"{gateway.proxies[-1].url}/v1/models", headers=bearer(token)).raise_for_status()
    assert gateway.token(token["id"])["token"] == token["token"]
