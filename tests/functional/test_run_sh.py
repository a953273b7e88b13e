"""`./run.sh`, as somebody uses it who has only read the README."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.processes import DEADLINE, Process, clean_environment, free_port, running
from support.upstreams import DemoUpstream

pytestmark = pytest.mark.timeout(300)  # the first start may have to install


class Installation:
    """A data folder and ports for `./run.sh`."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.proxy, self.manage, self.web = free_port(), free_port(), free_port()
        self.env = {
            **clean_environment(),
            "PROXY_LISTEN": f"127.0.0.1:{self.proxy}",
            "MANAGE_LISTEN": f"127.0.0.1:{self.manage}",
            "WEB_LISTEN": f"127.0.0.1:{self.web}",
            "DATA_DIR": str(folder / "data"),
            **settings,
        }

    def run(self, *arguments: str) -> Process:
        return Process(["./run.sh", *arguments], env=self.env, log=self.folder / "run.log")

    def ports_are_free(self) -> bool:
        for port in (self.proxy, self.manage, self.web):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return False
        return True


@pytest.fixture
def installation(tmp_path: Path, upstream: DemoUpstream) -> Installation:
    return Installation(tmp_path, UPSTREAM_URL=upstream.url)


@contextlib.contextmanager
def started(installation: Installation, *arguments: str, until: str = "is up") -> Iterator[Process]:
    process = installation.run(*arguments)
    with running(process):
        process.wait_for_output(until)
        yield process


def shell(command: str) -> str:
    """Run what was printed, in a shell, as a reader would."""
    done = subprocess.run(["/bin/bash", "-c", command], capture_output=True, text=True, timeout=DEADLINE, check=True)
    return done.stdout


def children(process: Process) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_the_first_start_makes_everything_and_prints_a_curl_line_that_works(installation: Installation) -> None:
    with started(installation) as process:
        output = process.output()
        assert f"http://127.0.0.1:{installation.proxy}/v1" in output
        token_file = installation.folder / "data" / "management_token"
        assert str(token_file) in output
        assert token_file.stat().st_mode & 0o777 == 0o600
        curl = next(line for line in output.splitlines() if line.lstrip().startswith("curl "))
        assert shell(f"{curl} --silent --fail") == "[]\n"
        assert httpx.get(f"http://127.0.0.1:{installation.proxy}/v1/models").status_code == 401
        assert process.stop() == 0
    assert installation.ports_are_free()


def test_a_second_start_finds_what_the_first_one_made(installation: Installation) -> None:
    with started(installation):
        pass
    data = installation.folder / "data"
    before = [(data / name).read_text() for name in ("encryption_key", "management_token")]
    with started(installation):
        assert [(data / name).read_text() for name in ("encryption_key", "management_token")] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_group_ends_everything(installation: Installation, number: signal.Signals) -> None:
    with started(installation) as process:
        os.killpg(process.pid, number)
        assert process.wait() == 0
    assert installation.ports_are_free()


@pytest.mark.parametrize("which", [0, 1])
def test_when_one_process_dies_the_other_is_stopped(installation: Installation, which: int) -> None:
    with started(installation) as process:
        os.kill(children(process)[which], signal.SIGKILL)
        assert process.wait() == 1
        assert "ended with status -9; stopping" in process.output()
    assert installation.ports_are_free()


def test_a_killed_supervisor_takes_its_processes_along(installation: Installation) -> None:
    with started(installation) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + DEADLINE
    while not installation.ports_are_free():
        assert time.monotonic() < deadline
        time.sleep(0.05)  # nobody tells of the end of another's child


def test_the_same_port_twice_is_a_bad_setting(installation: Installation) -> None:
    installation.env["MANAGE_LISTEN"] = installation.env["PROXY_LISTEN"]
    process = installation.run()
    assert process.wait() == 2
    assert "must differ" in process.output()


@pytest.mark.parametrize("name", ["PROXY_LISTEN", "MANAGE_LISTEN"])
def test_a_port_in_use_is_named(installation: Installation, name: str) -> None:
    port = {"PROXY_LISTEN": installation.proxy, "MANAGE_LISTEN": installation.manage}[name]
    with socket.create_server(("127.0.0.1", port)):
        process = installation.run()
        assert process.wait() == 1
    assert f"{name}=127.0.0.1:{port}" in process.output()
    assert "Traceback" not in process.output()


def test_bad_settings_are_all_named(tmp_path: Path) -> None:
    process = Installation(tmp_path, UPSTREAM_URL="ftp://x", LOG_LEVEL="loud", ENCRYPTION_KEY="c2hvcnQ=").run()
    assert process.wait() == 2
    for name in ("UPSTREAM_URL", "LOG_LEVEL", "ENCRYPTION_KEY"):
        assert name in process.output()
    assert "c2hvcnQ=" not in process.output()


def test_another_encryption_key_ends_the_start(installation: Installation) -> None:
    with started(installation):
        pass
    installation.env["ENCRYPTION_KEY"] = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    process = installation.run()
    assert process.wait() == 1
    assert "ENCRYPTION_KEY does not open this store" in process.output()


def test_the_demo_prints_snippets_that_work_as_they_stand(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    with started(installation, "demo", until="How often") as process:
        output = process.wait_for_output("/manage/tokens/")
        curl = re.search(r"^curl (?:.|\n)*?'$", output, re.MULTILINE)
        assert curl
        assert "You said: Hello!" in shell(f"{curl.group()} --silent --fail")
        snippet = re.search(r"^from openai import (?:.|\n)*flush=True\)$", output, re.MULTILINE)
        assert snippet
        told = subprocess.run([sys.executable, "-c", snippet.group()], capture_output=True, text=True, check=True)
        assert "You said: Hello!" in told.stdout
        usage = next(line for line in output.splitlines() if line.startswith("curl") and "/manage/tokens/" in line)
        assert '"request_count":2' in shell(f"{usage} --silent --fail").replace(" ", "")
        assert process.stop() == 0
    assert installation.ports_are_free()
    assert not (tmp_path / "data").exists()


def test_the_demo_lets_a_stream_end(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    with started(installation, "demo", until="How often") as process:
        token = re.search(r'api_key="([0-9a-f-]+)"', process.wait_for_output("/manage/tokens/"))
        assert token
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "drain"}]}
        headers = {"Authorization": f"Bearer {token.group(1)}", "X-Demo-Words": "60", "X-Demo-Chunk-Delay": "0.02"}
        url = f"http://127.0.0.1:{installation.proxy}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, headers=headers) as response:
            lines = response.iter_lines()
            next(lines)
            os.killpg(process.pid, signal.SIGINT)
            assert list(lines)[-2:] == ["data: [DONE]", ""]
        assert process.wait() == 0


def test_web_prints_a_login_that_works(installation: Installation) -> None:
    with started(installation, "web") as process:
        login = re.search(r"http://127\.0\.0\.1:\d+/\?token=\w+", process.output())
        assert login
        assert httpx.get(login.group(), follow_redirects=True).status_code == 200
        assert httpx.get(login.group().partition("?")[0]).status_code == 403
