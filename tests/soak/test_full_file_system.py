"""A really full file system, again and again: a small one in memory, which only root can mount."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.gateway.gateway import Gateway, bearer
from support.upstreams.upstreams import RawUpstream, answer_all

pytestmark = pytest.mark.soak("store/admission", "store/database")

ROUNDS = 10
SIZE = 1024 * 1024
"""Bytes of the file system: the store takes 200 KiB, and its log grows by 30 KiB in each round that makes room."""


@pytest.fixture
def small_file_system(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = run("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder))
    if mounted.returncode:
        pytest.skip(f"cannot mount a file system: {mounted.stderr.decode().strip()}")
    yield folder
    run("umount", str(folder)).check_returncode()


def run(*command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, check=False, capture_output=True)


def fill(file: Path) -> None:
    """Write until nothing more goes in."""
    with file.open("wb", buffering=0) as output:
        try:
            while output.write(bytes(1024)):
                pass
        except OSError:
            os.fsync(output.fileno())


def test_a_full_file_system_refuses_until_there_is_room(tmp_path: Path, small_file_system: Path) -> None:
    with (
        RawUpstream(answer_all()) as upstream,
        Gateway.start(tmp_path, upstream.url, DATA_DIR=str(small_file_system)) as gateway,
        httpx.Client(base_url=gateway.url) as client,
    ):
        token = gateway.make_token()
        sent = 0
        for _ in range(ROUNDS):
            fill(small_file_system / "ballast")
            answers = [client.get("/v1/models", headers=bearer(token)) for _ in range(200)]
            for answer in answers:
                assert answer.status_code == 200 or answer.json()["code"] == "store_unavailable"
            admitted = sum(answer.status_code == 200 for answer in answers)
            assert admitted < len(answers)
            assert client.get("/health").status_code == 200
            made = [gateway.manage("POST", "/manage/projects", {"name": "x", "api_key": "sk-x"}) for _ in range(50)]
            assert {answer.json().get("code") for answer in made} <= {None, "store_unavailable"}
            assert made[-1].status_code == 503
            (small_file_system / "ballast").unlink()
            assert client.get("/v1/models", headers=bearer(token)).status_code == 200
            sent += admitted + 1
            assert gateway.token(token["id"])["request_count"] == sent
        print(f"{ROUNDS} rounds on a full file system: {sent} admitted, all counted, no restart")
