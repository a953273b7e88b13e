"""Starting with mitmproxy's own tools: also without `--mode`, and never without the addon."""

import signal
import socket
from pathlib import Path

import httpx
import pytest
from support.gateway.gateway import Gateway, bearer
from support.gateway.processes import Process, free_port, running, tool, wait_until
from support.upstreams.upstreams import DemoUpstream, RawUpstream, answer_all

PASSWORD = "web-password"
WEB = ["--set", "web_open_browser=false", "--set", f"web_password={PASSWORD}"]


def test_mitmdump_without_a_mode_takes_the_settings(tmp_path: Path, upstream: DemoUpstream) -> None:
    gateway = Gateway(tmp_path, upstream.url)
    gateway.start_management()
    port = free_port()
    # -p: the port that mitmproxy opens before it has loaded a script; its default may be taken on this machine.
    command = [tool("mitmdump"), "-s", "addon/proxy.py", "-p", str(free_port())]
    process = Process(command, env={**gateway.env, "PROXY_LISTEN": f"127.0.0.1:{port}"}, log=tmp_path / "proxy.log")
    with running(process):
        process.wait_for_port(port)
        response = httpx.get(f"http://127.0.0.1:{port}/v1/models", headers=bearer(gateway.make_token()))
        assert response.status_code == 200
        assert process.stop() == 0
    gateway.stop()


def test_mitmweb_without_a_mode_takes_the_port_of_the_settings(tmp_path: Path, upstream: DemoUpstream) -> None:
    gateway = Gateway(tmp_path, upstream.url)
    port, web_port = free_port(), free_port()
    env = {**gateway.env, "PROXY_LISTEN": f"127.0.0.1:{port}", "WEB_LISTEN": f"127.0.0.1:{web_port}"}
    command = [tool("mitmweb"), "-s", "addon/proxy.py", "-p", str(free_port()), *WEB]
    with running(Process(command, env=env, log=tmp_path / "proxy.log")) as process:
        process.wait_for_port(port)
        assert httpx.get(f"http://127.0.0.1:{web_port}").status_code == 403  # it wants its login
        wait_until(lambda: shown_address(web_port) == ("127.0.0.1", port))


def shown_address(web_port: int) -> tuple[str, int]:
    """Return the address in mitmweb's badge."""
    headers = {"Authorization": f"Bearer {PASSWORD}"}
    options = httpx.get(f"http://127.0.0.1:{web_port}/options", headers=headers).raise_for_status().json()
    return options["listen_host"]["value"], options["listen_port"]["value"]


def test_a_proxy_logs_at_its_end_how_many_requests_took_the_plain_path(tmp_path: Path, upstream: DemoUpstream) -> None:
    with Gateway.start(tmp_path, upstream.url) as gateway:
        headers = bearer(gateway.make_token())
        for _ in range(2):
            httpx.get(f"{gateway.url}/v1/models", headers=headers).raise_for_status()
        chunks = iter([b'{"model": "m", "input": "one"}'])
        httpx.post(f"{gateway.url}/v1/embeddings", headers=headers, content=chunks).raise_for_status()
        assert gateway.stop_and_count() == (3, 4)  # with the one for /health


def test_a_port_in_use_ends_mitmdump(tmp_path: Path, upstream: DemoUpstream) -> None:
    gateway = Gateway(tmp_path, upstream.url)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = {**gateway.env, "PROXY_LISTEN": f"127.0.0.1:{port}"}
        command = [tool("mitmdump"), "-s", "addon/proxy.py", "-p", str(free_port())]
        process = Process(command, env=env, log=tmp_path / "proxy.log")
        assert process.wait() == 1
    assert str(port) in process.output()


def test_mitmdump_ends_and_names_all_bad_settings(tmp_path: Path) -> None:
    env = {**Gateway(tmp_path, "no url").env, "STORE_TIMEOUT": "never"}
    process = Process([tool("mitmdump"), "-s", "addon/proxy.py", "-p", str(free_port())], env=env, log=tmp_path / "log")
    assert process.wait() == 2
    assert "UPSTREAM_URL" in process.output()
    assert "STORE_TIMEOUT" in process.output()


def test_an_upstream_given_by_mode_gets_the_key_and_no_prefix(tmp_path: Path) -> None:
    with RawUpstream(answer_all()) as other:
        gateway = Gateway(tmp_path, "http://127.0.0.1:9/prefix")
        gateway.start_management()
        port = free_port()
        mode = f"reverse:{other.url}@127.0.0.1:{port}"
        command = [tool("mitmdump"), "-s", "addon/proxy.py", "--mode", mode]
        with running(Process(command, env=gateway.env, log=tmp_path / "proxy.log")) as process:
            process.wait_for_port(port)
            response = httpx.get(f"http://127.0.0.1:{port}/v1/x", headers=bearer(gateway.make_token()))
        gateway.stop()
    assert response.status_code == 200
    assert other.received().startswith(b"GET /v1/x ")


def test_a_drain_finishes_a_stream_and_accepts_no_connections(tmp_path: Path, upstream: DemoUpstream) -> None:
    with Gateway.start(tmp_path, upstream.url) as gateway:
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "drain"}]}
        headers = {**bearer(gateway.make_token()), "X-Demo-Words": "50", "X-Demo-Chunk-Delay": "0.02"}
        process = gateway.proxies[0].process
        with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json=body, headers=headers) as response:
            lines = response.iter_lines()
            next(lines)
            for _ in range(2):  # the process group's, and the supervisor's
                process.signal(signal.SIGTERM)
            process.wait_for_output("stopped")
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{gateway.url}/health")
            assert list(lines)[-2:] == ["data: [DONE]", ""]
        assert process.wait() == 0
