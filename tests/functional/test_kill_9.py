"""Counts survive when all processes are killed."""

from pathlib import Path

import httpx
import pytest
from support.gateway.gateway import Gateway, bearer
from support.upstreams.upstreams import DemoUpstream


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
def test_counts_survive_kill_9(upstream: DemoUpstream, tmp_path: Path, database_url: str) -> None:
    with Gateway.start(tmp_path, upstream.url, database_url=database_url) as gateway:
        token = gateway.make_token()
        for _ in range(10):
            httpx.get(f"{gateway.url}/v1/models", headers=bearer(token)).raise_for_status()
        gateway.proxies[0].process.kill()
        gateway.management.kill()
        gateway.start_management()
        assert gateway.token(token["id"])["request_count"] == 10
