"""`llm-proxy rotate` beside the real processes: no request fails, no PATCH is undone, and the old key can go."""

import contextlib
import os
import signal
import sqlite3
import time
from pathlib import Path

import httpx
import pytest
from support.gateway.gateway import Gateway, bearer
from support.gateway.installation import Installation
from support.gateway.processes import DEADLINE, ROOT, Process, python, tool
from support.load.load import Load
from support.stores.stores import make_many_tokens, make_settings, opened
from support.upstreams.upstreams import KEY, DemoUpstream

from store.encryption.crypto import KeyRing, new_key
from store.management.projects import Projects

OLD, NEW = new_key(), new_key()
TOKENS = 3000
CLIENTS = 4
ROTATE = [tool("llm-proxy"), "rotate"]


def make_store(folder: Path, **settings: str) -> list[tuple[str, str]]:
    """Make a store with TOKENS tokens in one project."""
    with opened(make_settings(folder, **settings)) as store:
        return make_many_tokens(store, Projects(store).create("Old", KEY).id, TOKENS)


@pytest.mark.soak("store/encryption", "store/operations")
def test_a_rotation_under_load_fails_no_request_and_undoes_no_patch(tmp_path: Path, upstream: DemoUpstream) -> None:
    old_tokens = make_store(tmp_path, encryption_key=OLD)
    with Gateway.start(tmp_path, upstream.url, ENCRYPTION_KEY=f"{NEW},{OLD}") as gateway:
        upstream.clear()
        used = [gateway.token(token_id) for token_id, _ in old_tokens[:CLIENTS]]
        patched = [gateway.make_token() for _ in range(2)]
        with Load(gateway, used, [token["project_id"] for token in patched]) as load:
            rotation = Process(ROTATE, env=gateway.env, log=tmp_path / "rotate.log")
            assert rotation.wait(60) == 0, rotation.output()
        assert f"tokens {TOKENS}, secrets of the store 2" in rotation.output()
        assert "Nothing in the store needs the other keys of the ring" in rotation.output()
        assert {status for _, status in load.answers} == {200}
        assert len(load.answers) == CLIENTS
        assert upstream.count() == load.answers.total()
        listed = gateway.manage("GET", "/manage/tokens").json()
        gateway.stop()

        gateway.env["ENCRYPTION_KEY"] = NEW
        gateway.start_management()
        proxy = gateway.start_proxy()
        assert gateway.manage("GET", "/manage/tokens").json() == listed
        assert {(token["id"], token["token"]) for token in listed} >= set(old_tokens)
        counts = {token["id"]: token["request_count"] for token in listed if token["request_count"]}
        assert counts == {token_id: count for (token_id, _), count in load.answers.items()}
        assert httpx.get(f"{proxy.url}/v1/models", headers=bearer(used[0])).status_code == 200
        for token in patched:
            upstream.clear()
            refused = httpx.get(f"{proxy.url}/v1/models", headers=bearer(token))
            assert (refused.status_code, refused.json()["code"]) == (503, "upstream_key_rejected")
            assert f"Bearer {load.last_keys[token['project_id']]}" in str(upstream.requests())

    env = {**gateway.env, "ENCRYPTION_KEY": OLD}
    late = Process(python("-m", "manage_api"), env=env, log=tmp_path / "late.log")
    assert late.wait() == 1
    assert "ENCRYPTION_KEY does not open this store" in late.output()


def count_done(data: Path, header: bytes) -> int:
    with contextlib.closing(sqlite3.connect(data / "llm-proxy.db")) as connection:
        count: int
        ((count,),) = connection.execute("SELECT count(*) FROM token WHERE substr(sealed_value, 1, 5) = ?", [header])
        return count


def test_a_rotation_stopped_by_a_signal_is_finished_by_the_next(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    make_store(tmp_path)
    file = installation.data / "encryption_key"
    file.write_text(f"{NEW},{file.read_text()}")
    header = KeyRing.parse(NEW).first_header
    process = installation.start(ROTATE)
    deadline = time.monotonic() + DEADLINE
    while not count_done(installation.data, header):
        assert time.monotonic() < deadline
    os.killpg(process.pid, signal.SIGTERM)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait() == 1
    done = count_done(installation.data, header)
    assert 0 < done < TOKENS
    assert process.output().startswith("Stopped by a signal. Re-encrypted with the first key of the ring: ")
    assert f"tokens {done}, " in process.output()
    process.log.unlink()

    again = installation.start([str(ROOT / "run.sh"), "rotate"])
    assert again.wait() == 0
    assert f"tokens {TOKENS - done}, secrets of the store 2." in again.output()
    assert f"take them out of {file} and restart" in again.output()
    assert count_done(installation.data, header) == TOKENS
