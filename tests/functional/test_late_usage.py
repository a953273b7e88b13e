"""Usage that is told later, by other requests, through other processes, after a restart."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import openai
import pytest
from support.gateway.gateway import Gateway, bearer
from support.gateway.processes import wait_until
from support.load.mixed_load import rows_of
from support.upstreams.events import sse
from support.upstreams.upstreams import Conversation, RawUpstream, json_response

MODEL = "gpt-5-2025-08-07"
USAGE = {
    "input_tokens": 1000,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 5000,
    "output_tokens_details": {"reasoning_tokens": 4000},
    "total_tokens": 6000,
}


class BackgroundUpstream(RawUpstream):
    """Makes responses in the background. They end once they are asked for `status`."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.status = "in_progress"
        self.made = 0

    def _answer(self, conversation: Conversation) -> None:
        while True:
            head, body = conversation.read_message()
            method, target, _ = head.decode().split(" ", 2)
            path = target.partition("?")[0]
            if method == "POST" and path == "/v1/responses":
                self.made += 1
                response = self._response(f"resp_{self.made}", "queued")
                if json.loads(body).get("stream"):
                    conversation.send(_events({"type": "response.created", "response": response}))
                    conversation.wait_until_closed()
                    raise ConnectionError
            else:
                response = self._response(path.split("/")[3], self.status)
            if "stream=true" in target:
                last = {"type": "response.completed", "response": response}
                conversation.send(_events({"type": "response.output_text.delta", "delta": "Hi"}, last, end=True))
            else:
                conversation.send(json_response(response))

    @staticmethod
    def _response(response_id: str, status: str) -> dict[str, Any]:
        usage = USAGE if status == "completed" else None
        return {
            "id": response_id,
            "object": "response",
            "created_at": 1,
            "background": True,
            "status": status,
            "model": MODEL,
            "output": [],
            "usage": usage,
        }


def _events(*events: object, end: bool = False) -> bytes:
    body = sse(*events)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%b\r\n" % (len(body), body) + b"0\r\n\r\n" * end


@pytest.fixture(scope="module")
def upstream() -> Iterator[BackgroundUpstream]:
    with BackgroundUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, upstream: BackgroundUpstream, path: str
) -> Iterator[Gateway]:
    url = request.getfixturevalue("postgresql_server").make_database() if request.param == "postgresql" else ""
    folder = tmp_path_factory.mktemp("late")
    with Gateway.start(folder, upstream.url, proxies=2, database_url=url, PLAIN_PATH=path) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def under_way(upstream: BackgroundUpstream) -> None:
    upstream.status = "in_progress"


def made_by(gateway: Gateway, token: dict[str, Any], method: str = "POST") -> list[dict[str, Any]]:
    """Return the rows of a token's requests of a method, the first one first, once all are settled."""
    wait_until(lambda: all(row["usage_source"] for row in rows_of(gateway)))
    mine = [row for row in rows_of(gateway) if (row["method"], row["token_id"]) == (method, token["id"])]
    return sorted(mine, key=lambda row: str(row["id"]))


def totals(gateway: Gateway, token: dict[str, Any]) -> dict[str, Any]:
    answer = gateway.manage("GET", f"/manage/usage?tokenId={token['id']}").raise_for_status()
    found: dict[str, Any] = answer.json()["totals"]
    return found


def test_a_response_in_the_background_is_booked_once_on_the_request_that_made_it(
    gateway: Gateway, upstream: BackgroundUpstream
) -> None:
    token = gateway.make_token()
    first, second = (
        openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=token["token"], max_retries=0) for proxy in gateway.proxies
    )
    made = first.responses.create(model="gpt-5", input="Hi", background=True)
    assert second.responses.retrieve(made.id).status == "in_progress"
    (row,) = made_by(gateway, token)
    assert (row["usage_source"], row["cost_usd"], row["model"]) == ("unknown", None, MODEL)

    gateway.stop()  # the process that made the response is gone
    gateway.start_management()
    later = [gateway.start_proxy(), gateway.start_proxy()]
    gateway.proxies[:] = later
    upstream.status = "completed"
    for proxy in later:
        asked = httpx.get(f"{proxy.url}/v1/responses/{made.id}", headers=bearer(token)).raise_for_status()
        assert asked.json()["usage"] == USAGE
    (row,) = made_by(gateway, token)
    assert (row["usage_source"], row["input_tokens"], row["output_tokens"]) == ("observed", 1000, 5000)
    assert (row["reasoning_tokens"], row["cost_usd"], row["cost_is_minimum"]) == (4000, "0.05125", False)
    assert {asked["usage_source"] for asked in made_by(gateway, token, "GET")} == {"unknown"}
    sums = totals(gateway, token)
    assert (sums["requests"], sums["observed"], sums["unknown"], sums["cost_usd"]) == (4, 1, 3, "0.05125")
    assert (sums["input_tokens"], sums["output_tokens"]) == (1000, 5000)


def test_a_stream_that_is_resumed_tells_the_usage(gateway: Gateway, upstream: BackgroundUpstream) -> None:
    token = gateway.make_token()
    asked = {"model": "gpt-5", "input": "Hi", "background": True, "stream": True}
    with (
        httpx.Client(base_url=gateway.url, headers=bearer(token)) as client,
        client.stream("POST", "/v1/responses", json=asked) as cut,
    ):
        next(cut.iter_lines())
    (row,) = made_by(gateway, token)
    assert row["usage_source"] == "unknown"
    upstream.status = "completed"
    resumed = httpx.get(
        f"{gateway.url}/v1/responses/resp_{upstream.made}?stream=true&starting_after=1", headers=bearer(token)
    )
    assert "response.completed" in resumed.text
    made_by(gateway, token, "GET")
    (row,) = made_by(gateway, token)
    assert (row["usage_source"], row["output_tokens"]) == ("observed", 5000)
    assert totals(gateway, token)["output_tokens"] == 5000


def test_a_response_that_is_cancelled_stays_unknown(gateway: Gateway, upstream: BackgroundUpstream) -> None:
    token = gateway.make_token()
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=token["token"], max_retries=0)
    made = client.responses.create(model="gpt-5", input="Hi", background=True)
    upstream.status = "cancelled"
    with suppress(openai.APIError):
        client.responses.cancel(made.id)
    upstream.status = "completed"  # it tells what it has told already, by mistake
    client.responses.retrieve(made.id)
    made_by(gateway, token, "GET")
    assert {row["usage_source"] for row in made_by(gateway, token)} == {"unknown"}
    assert totals(gateway, token)["output_tokens"] is None
