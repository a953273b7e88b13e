"""Files of the addon that break while it runs or before it starts: no request passes without the addon.

A copy of the packages runs here; its version says so.
"""

import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import httpx
import pytest
from support.gateway.gateway import WAYS, Gateway, Way, bearer
from support.gateway.processes import ROOT, Process, free_port, python, tool
from support.upstreams.upstreams import RawUpstream, answer_all

NO_PYTHON = "this is no Python"
STARTS = pytest.mark.soak("addon", "store/errors.py", "store/runtime")
IN_THE_SUITE = {("launcher", "gateway"), ("mitmdump", "script"), ("mitmdump", "empty"), ("mitmweb", "setting")}
"""One start for each fault and for each way; a soak run has the others."""


class Copy:
    """A copy of the packages, with a gateway that runs from it."""

    def __init__(self, folder: Path, upstream_url: str, **settings: str) -> None:
        self.root = folder / "copy"
        for package in ("addon", "store"):
            shutil.copytree(ROOT / package, self.root / package)  # compiled files too: they hold their sources' times
        (self.root / "store" / "version.py").write_text('__version__ = "the copy"\n')
        self.script = self.root / "addon" / "proxy.py"
        self.gateway = Gateway(folder, upstream_url, **settings)
        self.port = free_port()
        self.web_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.web_url = f"http://127.0.0.1:{self.web_port}"
        self.log = folder / "copy.log"

    def start(self, way: Way) -> Process:
        env = {
            **self.gateway.env,
            "PYTHONPATH": str(self.root),  # before the installed packages
            "PYTHONDONTWRITEBYTECODE": "1",
            "PROXY_LISTEN": f"127.0.0.1:{self.port}",
            "WEB_LISTEN": f"127.0.0.1:{self.web_port}",
        }
        mode = f"reverse:{env['UPSTREAM_URL']}@127.0.0.1:{self.port}"
        web = [
            "--set",
            "web_open_browser=false",
            "--set",
            "web_password=web-password",
            "--set",
            f"web_port={self.web_port}",
        ]
        commands = {
            "launcher": python("-m", "addon"),
            "mitmdump": [tool("mitmdump"), "-s", str(self.script), "--mode", mode],
            "mitmweb": [tool("mitmweb"), "-s", str(self.script), "--mode", mode, *web],
        }
        return Process(commands[way], env=env, log=self.log, cwd=self.root)

    def files(self) -> list[Path]:
        return [file for package in ("addon", "store") for file in (self.root / package).rglob("*.py")]

    def check(self, token: dict[str, str]) -> None:
        """Check that only admitted requests pass, and that the copy decides."""
        assert httpx.get(f"{self.url}/health").json()["version"] == "the copy"
        assert httpx.get(f"{self.url}/v1/models").status_code == 401
        assert httpx.get(f"{self.url}/v1/models", headers=bearer(token)).status_code == 200


@pytest.mark.parametrize("way", ["mitmdump", *(pytest.param(way, marks=STARTS) for way in WAYS if way != "mitmdump")])
def test_files_that_break_while_the_proxy_runs_change_nothing(tmp_path: Path, way: Way) -> None:
    with RawUpstream(answer_all()) as upstream:
        copy = Copy(tmp_path, upstream.url)
        copy.gateway.start_management()
        process = copy.start(way)
        try:
            process.wait_for_port(copy.port)
            token = copy.gateway.make_token()
            copy.check(token)
            for file in copy.files():
                if file != copy.script:
                    file.write_text(NO_PYTHON)
            changes: dict[
                str, Callable[[], object]
            ] = {  # and mitmproxy, which watches the script, logs this once it has seen the change
                "Loading script": copy.script.touch,
                "error in script": lambda: copy.script.write_text(NO_PYTHON),
                "Un-loading script": copy.script.unlink,
            }
            for message, change in changes.items():
                before = process.output().count(message)
                change()
                if way != "launcher":
                    process.wait_for_output(message, before + 1)
                copy.check(token)
            for file in copy.files():
                file.write_text("")
            copy.check(token)
            count = copy.gateway.token(token["id"])["request_count"]
            assert process.stop() == 0
        finally:
            process.kill()
            copy.gateway.stop()
    assert upstream.received().count(b"GET ") == count == 5


def write(name: str, content: str) -> Callable[[Copy], object]:
    return lambda copy: (copy.root / name).write_text(content)


BROKEN: dict[str, Callable[[Copy], object]] = {
    "script": write("addon/proxy.py", NO_PYTHON),
    "gateway": write("addon/gateway.py", NO_PYTHON),
    "empty": write("store/errors.py", ""),
    "setting": lambda copy: copy.gateway.env.update(LOG_LEVEL="loud"),
}


class Callers:
    """Clients that ask on a port from before it opens until the block ends."""

    def __init__(self, port: int) -> None:
        self.answers = b""
        self._port = port
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._done.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=1) as sock:
                    sock.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    self.answers += sock.recv(4096)
            except OSError:
                time.sleep(0.002)  # no event reports that a port opens


@pytest.mark.parametrize(
    ("way", "broken"),
    [
        (way, broken) if (way, broken) in IN_THE_SUITE else pytest.param(way, broken, marks=STARTS)
        for way in WAYS
        for broken in BROKEN
        if (way, broken) != ("launcher", "script")  # it has none
    ],
)
def test_a_start_with_a_broken_file_ends_and_admits_nothing(tmp_path: Path, way: Way, broken: str) -> None:
    with RawUpstream(answer_all()) as upstream:
        copy = Copy(tmp_path, upstream.url)
        BROKEN[broken](copy)
        with Callers(copy.port) as callers:
            process = copy.start(way)
            try:
                assert process.wait() != 0
            finally:
                process.kill()
        assert callers.answers == b""
    if broken != "script":  # where none of our code runs, mitmproxy connects before it notices that it has to end
        assert upstream.conversations == []
    assert upstream.received() == b""


OPTIONS: dict[str, Callable[[Copy, str], dict[str, list[str]]]] = {
    "no script": lambda _copy, _upstream: {"scripts": []},
    "an open proxy": lambda copy, _upstream: {"mode": [f"regular@127.0.0.1:{copy.port}"]},
    "bytes": lambda copy, upstream: {"mode": [f"reverse:{upstream.replace('http', 'tcp')}@127.0.0.1:{copy.port}"]},
    "another upstream": lambda copy, _upstream: {"mode": [f"reverse:http://127.0.0.1:9@127.0.0.1:{copy.port}"]},
}


def test_no_option_of_mitmweb_admits_anything(tmp_path: Path) -> None:
    with RawUpstream(answer_all()) as upstream:
        copy = Copy(tmp_path, upstream.url)
        copy.gateway.start_management()
        process = copy.start("mitmweb")
        try:
            process.wait_for_port(copy.port)
            token = copy.gateway.make_token()
            xsrf = "0" * 32
            headers = {"Authorization": "Bearer web-password", "X-XSRFToken": xsrf, "Cookie": f"_mitmproxy_xsrf={xsrf}"}
            with Callers(copy.port) as callers:
                for options in OPTIONS.values():
                    body = options(copy, upstream.url)
                    httpx.put(f"{copy.web_url}/options", json=body, headers=headers).raise_for_status()
                    if "scripts" in body:
                        copy.check(token)
            assert callers.answers.count(b"HTTP/1.1 ") == callers.answers.count(b"HTTP/1.1 401 ") > 0
            assert process.stop() == 0
        finally:
            process.kill()
            copy.gateway.stop()
    assert upstream.received().count(b"GET ") == 1
