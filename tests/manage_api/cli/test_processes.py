import socket
import subprocess
from pathlib import Path

import pytest

from manage_api.cli import processes
from store.errors import StartupError
from store.settings import Listen, Settings


def test_a_free_port_passes_and_a_taken_one_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=rf"PROXY_LISTEN=127\.0\.0\.1:{port}: Address already in use"):
            processes.require_free_port("PROXY_LISTEN", Listen("127.0.0.1", port))
    processes.require_free_port("PROXY_LISTEN", Listen("127.0.0.1", port))


def test_an_address_that_is_not_this_machines_is_named() -> None:
    with pytest.raises(StartupError, match=r"MANAGE_LISTEN=192\.0\.2\.1:8081"):
        processes.require_free_port("MANAGE_LISTEN", Listen("192.0.2.1", 8081))


def test_the_banner_never_shows_a_management_token(tmp_path: Path) -> None:
    made = processes.banner(Settings(data_dir=tmp_path))
    assert f"$(cat {tmp_path / 'management_token'})" in made
    given = processes.banner(Settings(data_dir=tmp_path, management_token="a-token-of-the-settings"))
    assert "a-token-of-the-settings" not in given


def test_the_banner_reads_a_given_management_token_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("MANAGEMENT_TOKEN=a-token-of-the-file\n")
    line = next(line for line in processes.banner(Settings.load()).splitlines() if "curl" in line)
    read = subprocess.run(
        ["/bin/sh", "-c", line.replace("curl -H", "echo")], capture_output=True, text=True, check=True
    )
    assert read.stdout.startswith("Authorization: Bearer a-token-of-the-file http")
    monkeypatch.setenv("MANAGEMENT_TOKEN", "a-token-of-the-environment")
    assert '"Authorization: Bearer $MANAGEMENT_TOKEN"' in processes.banner(Settings.load())
