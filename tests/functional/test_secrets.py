"""The upstream key and the token turn up nowhere: not in logs at debug level, files, answers, or flows in mitmweb."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from support.gateway import WAYS, Gateway, bearer
from support.upstreams import KEY, DemoUpstream

PASSWORD = "web-password"


def files_with(folder: Path, *secrets: str) -> list[str]:
    """Return the files below `folder` that hold one of `secrets`."""
    needles = [secret.encode() for secret in secrets]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if any(needle in path.read_bytes() for needle in needles)]


def use(gateway: Gateway, token: dict[str, Any]) -> list[httpx.Response]:
    """Send requests of many kinds, good and bad, and return the answers."""
    value = token["token"]
    with httpx.Client(base_url=gateway.url, headers=bearer(token)) as client:
        answers = [
            client.get("/v1/models"),
            client.get("/v1/models/unknown"),
            client.post("/v1/chat/completions", json={"model": "m", "messages": [{"role": "user", "content": "x"}]}),
            client.post("/v1/files", files={"file": ("f", bytes(2_000_000))}, data={"purpose": "assistants"}),
            client.get("/v1/../x"),
            client.get(f"/v1/models/{value}x"),
            client.get("/nowhere"),
            client.request("TRACE", "/v1/models"),
            client.get("/v1/models", headers={"Authorization": f"Basic {value}"}),
            client.get("/v1/models", headers={"Authorization": f"Bearer {value}x"}),
        ]
        with client.stream("GET", "/v1/models", headers={"Sec-WebSocket-Protocol": f"openai-insecure-api-key.{value}"}):
            pass
    start = f"POST /v1/x HTTP/1.1\r\nAuthorization: Bearer {value}\r\n"
    for broken in (
        f"GET /v1/x HTTP/1.1\r\nAuthorization Bearer {value}\r\n\r\n",
        start,
        f"{start}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as sock:
            sock.sendall(broken.encode())
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
    return answers


@pytest.mark.parametrize("way", WAYS)
def test_no_log_file_or_answer_holds_a_secret(tmp_path: Path, upstream: DemoUpstream, way: Any) -> None:
    with Gateway.start(tmp_path, upstream.url, way=way) as gateway:
        token = gateway.make_token()
        answers = use(gateway, token)
        gateway.manage("GET", f"/manage/tokens/{token['token']}").raise_for_status()
        gateway.manage("PATCH", f"/manage/tokens/{token['token']}", {"max_requests": "wrong"})
        gateway.manage("GET", "/manage/projects", token=token["token"])
        assert (gateway.data / "llm-proxy.db-wal").exists()
        assert files_with(tmp_path, KEY, token["token"]) == []
    assert files_with(tmp_path, KEY, token["token"]) == []
    assert [answer.status_code for answer in answers if KEY in answer.text or token["token"] in whole(answer)] == []


def whole(answer: httpx.Response) -> str:
    """Return an answer's headers and text, without what the upstream quotes of the path that it was asked for."""
    return f"{answer.headers}{'' if 'openai-processing-ms' in answer.headers else answer.text}"


class Polling(threading.Thread):
    """Polls mitmweb's list of flows and its events while a test goes on."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.polls: list[str] = []
        self._done = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {PASSWORD}"}) as client:
            while not self._done.is_set():
                for path in ("/flows", "/events", "/options", "/state"):
                    self.polls.append(client.get(path).raise_for_status().text)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()


@pytest.fixture(scope="module")
def with_mitmweb(tmp_path_factory: pytest.TempPathFactory, upstream: DemoUpstream) -> Iterator[Gateway]:
    with Gateway.start(tmp_path_factory.mktemp("web"), upstream.url, way="mitmweb") as gateway:
        yield gateway


def test_mitmweb_never_shows_a_secret(with_mitmweb: Gateway, upstream: DemoUpstream) -> None:
    token = with_mitmweb.make_token()
    with Polling(with_mitmweb.proxies[0].web_url) as polling:
        use(with_mitmweb, token)
        wait_until(lambda: len(polling.polls) > 40)
        slow = {**bearer(token), "X-Demo-Words": "30", "X-Demo-Chunk-Delay": "0.02"}
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "slowly"}]}
        with httpx.stream("POST", f"{with_mitmweb.url}/v1/chat/completions", json=body, headers=slow) as response:
            response.read()
    assert any("/v1/chat/completions" in poll for poll in polling.polls)
    assert any("Bearer ***" in poll for poll in polling.polls)
    assert [poll for poll in polling.polls if KEY in poll] == []
    sent_in_a_path = f"/v1/models/{token['token']}x"  # what a client puts into a path is shown as it is
    assert [poll for poll in polling.polls if token["token"] in poll.replace(sent_in_a_path, "")] == []
    assert any(["Authorization", f"Bearer {KEY}"] in request["headers"] for request in upstream.requests())


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # a thread's list tells nobody when it grows
