"""A token is rotated with a grace while 500 requests a second use its old value: none fails before that ends, and none
passes after it. On each store, over several proxies."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple

import openai
import pytest
from support.clients.kept_alive import KeptAlive
from support.gateway.gateway import Gateway, on_each_store
from support.gateway.processes import wait_until

pytestmark = on_each_store

CLIENTS = 10
PAUSE = CLIENTS / 500
"""Seconds from one request of a client to the next: all of them send 500 in a second."""

BEFORE, AFTER = 0.3, 0.5
"""Seconds of the load before the rotation, and after the old value has ended."""

GRACE_SECONDS = 2
"""The old value works for up to a second longer, as a grace is rounded up."""

LEAST = 500
"""Requests in all; a machine that is not busy makes three times as many."""


class Answer(NamedTuple):
    """A request's times by the machine's clock, which is that of both stores here, and its status."""

    sent_at: float
    answered_at: float
    status: int


def use(url: str, value: str, ends_at: Callable[[], float]) -> list[Answer]:
    """Send requests with a value at an even pace, until a while after a time that is known later."""
    answers, due_at = [], time.time()
    with KeptAlive(url) as client:
        while due_at < ends_at() + AFTER:
            time.sleep(max(due_at - time.time(), 0))
            sent_at = time.time()
            status = client.get(value)
            answers.append(Answer(sent_at, time.time(), status))
            due_at = max(due_at + PAUSE, answers[-1].answered_at)
    return answers


def rotated(gateway: Gateway, token: dict[str, Any], grace_seconds: int) -> dict[str, Any]:
    answer = gateway.manage("POST", f"/manage/tokens/{token['id']}/rotate", {"grace_seconds": grace_seconds})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def is_counted(gateway: Gateway, token: dict[str, Any], number: int) -> bool:
    """Tell whether a token has made so many requests, by its own count, its window and one row of usage."""
    shown = gateway.token(token["id"])
    report = gateway.manage("GET", f"/manage/usage?groupBy=token&projectId={token['project_id']}").json()
    rows = [(group["token_id"], group["requests"], group["in_flight"]) for group in report["groups"]]
    (window,) = shown["limits"]
    return (shown["request_count"], window["used"], rows) == (number, number, [(token["id"], number, 0)])


def test_a_grace_holds_to_the_second_under_load(gateway: Gateway) -> None:
    token = gateway.make_token(rate_limits=[{"requests": 10**6, "per": "day"}])
    ends_at = [float("inf")]
    with ThreadPoolExecutor(CLIENTS) as pool:
        urls = [gateway.proxies[number % len(gateway.proxies)].url for number in range(CLIENTS)]
        loads = [pool.submit(use, url, token["token"], lambda: ends_at[0]) for url in urls]
        try:
            time.sleep(BEFORE)
            after = rotated(gateway, token, GRACE_SECONDS)
            with KeptAlive(gateway.url) as client:
                assert client.get(after["token"]) == 200  # at once
        except BaseException:
            ends_at[0] = 0
            raise
        ends_at[0] = datetime.fromisoformat(after["previous_expires_at"]).timestamp()
        answers = [answer for load in loads for answer in load.result()]
    assert {answer.status for answer in answers if answer.answered_at < ends_at[0]} == {200}
    assert {answer.status for answer in answers if answer.sent_at >= ends_at[0]} == {401}
    assert len(answers) > LEAST
    passed = sum(answer.status == 200 for answer in answers)
    wait_until(lambda: is_counted(gateway, token, passed + 1))
    assert gateway.token(token["id"])["previous_expires_at"] is None


def test_an_sdk_is_told_when_its_value_has_ended(gateway: Gateway) -> None:
    token = gateway.make_token()
    clients = [openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=token["token"], max_retries=0)]
    clients[0].models.list()
    after = rotated(gateway, token, 60)
    clients.append(clients[0].with_options(api_key=after["token"]))
    for client in clients:
        client.models.list()
    last = rotated(gateway, token, 0)
    for client in clients:
        with pytest.raises(openai.AuthenticationError) as raised:
            client.models.list()
        assert raised.value.code == "invalid_token"
    clients[0].with_options(api_key=last["token"]).models.list()
    assert gateway.token(token["id"])["request_count"] == 4
