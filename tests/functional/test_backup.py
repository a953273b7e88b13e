"""`llm-proxy backup` beside the real processes, and the use of its file in the store's place."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import httpx
import pytest
from support.gateway.gateway import Gateway, bearer
from support.gateway.processes import ROOT, Process, wait_until
from support.load.load import Load
from support.upstreams.upstreams import DemoUpstream

CLIENTS = 2
COUNTS = """
    SELECT id, request_count, opening_count + (SELECT count(*) FROM request WHERE token_id = token.id) FROM token
"""


@pytest.mark.soak("manage_api/cli", "store/operations")  # in the suite: manage_api/cli/test_backup.py
def test_a_backup_under_load_can_replace_the_store(tmp_path: Path, upstream: DemoUpstream) -> None:
    file, data = tmp_path / "copy.db", tmp_path / "restored" / "data"
    with Gateway.start(tmp_path, upstream.url, proxies=2) as live:
        tokens = [live.make_token() for _ in range(CLIENTS)]
        with Load(live, tokens) as load:
            wait_until(lambda: len(load.answers) == CLIENTS)
            backup = Process([str(ROOT / "run.sh"), "backup", str(file)], env=live.env, log=tmp_path / "backup.log")
            assert backup.wait() == 0, backup.output()
            at_its_end = load.answers.total()
            wait_until(lambda: load.answers.total() > at_its_end + CLIENTS)
        assert f"Backed up into {file}: projects {CLIENTS}, tokens {CLIENTS}, requests " in backup.output()
        assert {status for _, status in load.answers} == {200}
        counts = {token["id"]: live.token(token["id"])["request_count"] for token in tokens}
    assert [found.name for found in tmp_path.glob("*copy*")] == ["copy.db"]

    data.mkdir(parents=True)
    shutil.copy(file, data / "llm-proxy.db")
    shutil.copy(tmp_path / "data" / "encryption_key", data)
    with contextlib.closing(sqlite3.connect(data / "llm-proxy.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        copied = {token_id: (count, rows) for token_id, count, rows in copy.execute(COUNTS)}
    assert copied.keys() == counts.keys()
    with Gateway.start(data.parent, upstream.url) as restored:
        for token in tokens:
            count, rows = copied[token["id"]]
            assert count == rows
            assert 0 < count < counts[token["id"]]
            assert httpx.get(f"{restored.url}/v1/models", headers=bearer(token)).status_code == 200
            assert restored.token(token["id"])["request_count"] == count + 1
