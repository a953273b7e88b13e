"""Metrics of real processes: the kinds of errors, and figures that survive the ends of the processes."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import httpx
from support.gateway.gateway import Gateway, bearer
from support.metrics import Samples, by_name, sample
from support.upstreams.upstreams import OK, Conversation, RawUpstream, answer_all, json_response

UNAUTHORIZED = json_response({"error": {"code": "invalid_api_key"}}, status="401 Unauthorized")
CUT = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\ndata: 1\n\n"


def metrics(gateway: Gateway) -> Samples:
    return by_name(gateway.manage("GET", "/metrics").raise_for_status().text)


def close_after(data: bytes) -> Callable[[Conversation], None]:
    """Answer with some bytes, and hang up."""

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(data)

    return answer


def keep_silent(conversation: Conversation) -> None:
    conversation.read_head()
    conversation.wait_until_closed()


ANSWERS = {
    "4xx": answer_all(OK.replace(b"200 OK", b"404 Not Found")),
    "5xx": answer_all(OK.replace(b"200 OK", b"503 Service Unavailable")),
    "key_rejected": answer_all(UNAUTHORIZED),
    "no_response": close_after(b""),
    "cut": close_after(CUT),
    "timeout": keep_silent,
}
"""The answers of an upstream, by the kinds of errors that they are."""


def test_errors_are_counted_by_kind_and_figures_survive_the_processes(tmp_path: Path, path: str) -> None:
    with contextlib.ExitStack() as serving, contextlib.ExitStack() as stack:
        upstream = serving.enter_context(RawUpstream(answer_all()))
        started = Gateway.start(tmp_path, upstream.url, PLAIN_PATH=path, FIRST_BYTE_TIMEOUT="0.3")
        gateway, client = stack.enter_context(started), stack.enter_context(httpx.Client(timeout=30))
        token, url = gateway.make_token(), f"{gateway.url}/v1/models"
        for answer in (answer_all(), *ANSWERS.values()):
            upstream.answer = answer
            try:
                client.get(url, headers=bearer(token))
            except httpx.RemoteProtocolError:
                assert answer is ANSWERS["cut"]
        serving.close()
        assert client.get(url, headers=bearer(token)).status_code == 503
        assert client.get(url, headers={"Authorization": "Bearer none"}).status_code == 401
        gateway.manage("PATCH", f"/manage/tokens/{token['id']}", {"is_active": False})
        assert client.get(url, headers=bearer(token)).status_code == 401
        gateway.proxies[0].process.stop()
        found = metrics(gateway)
        kinds = dict.fromkeys([*ANSWERS, "connect"], 1)
        assert {kind: found[sample("upstream_errors_total", kind=kind)] for kind in kinds} == kinds
        codes = ("invalid_token", "token_inactive", "service_unavailable", "upstream_timeout", "upstream_key_rejected")
        errors = {code: found[sample("errors_total", code=code)] for code in codes}
        assert errors == dict.fromkeys(codes, 1) | {"service_unavailable": 2}
        admitted = len(ANSWERS) + 2
        project = token["project_id"]
        assert found[sample("requests_total", project_id=project)] == admitted
        assert found[sample("refusals_total", project_id=project, code="token_inactive")] == 1
        assert sum(value for (name, _), value in found.items() if "request_duration_seconds_count" in name) == admitted
        assert found[sample("added_latency_seconds_count", endpoint="/v1/models")] == admitted - 1
        assert found[sample("store_admission_duration_seconds_count")] == admitted + 1
        assert not any("processes" in name and value for (name, _), value in found.items())


def test_a_client_that_hangs_up_is_no_error_of_the_upstream(tmp_path: Path, path: str) -> None:
    with (
        RawUpstream(keep_after_one_event) as upstream,
        Gateway.start(tmp_path, upstream.url, PLAIN_PATH=path) as gateway,
    ):
        token, url = gateway.make_token(), f"{gateway.url}/v1/models"
        with httpx.stream("GET", url, headers=bearer(token)) as response:
            next(response.iter_raw())
        upstream.conversations[0].closed.wait(30)
        gateway.proxies[0].process.stop()
        found = metrics(gateway)
    assert not any(value for (name, _), value in found.items() if "upstream_errors_total" in name)
    of_models = {"endpoint": "/v1/models", "status": "2xx"}
    assert found[sample("request_duration_seconds_count", **of_models)] == 1


def keep_after_one_event(conversation: Conversation) -> None:
    conversation.read_head()
    conversation.send(CUT)
    conversation.wait_until_closed()
