"""Policies as clients meet them: models, endpoints and addresses, on each way by which a request names its model."""

import asyncio
import contextlib
import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import openai
import pytest
from support.clients.http2 import Http2Client
from support.gateway.gateway import Gateway, bearer, on_each_store
from support.gateway.processes import wait_until
from support.gateway.relay import Relay
from support.upstreams.upstreams import OK, Conversation, DemoUpstream, RawUpstream, answer_all
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode
from websockets.sync.client import connect
from websockets.sync.connection import Connection

MINI = "gpt-4o-mini"
CHAT = "/v1/chat/completions"
JSON = "application/json"
MESSAGES = [{"role": "user", "content": "Hello!"}]
MAX_SPOOL = 5 * 1024 * 1024


def allow(gateway: Gateway, token: dict[str, Any], **policies: object) -> None:
    gateway.manage("PATCH", f"/manage/tokens/{token['id']}", policies).raise_for_status()


def allow_project(gateway: Gateway, token: dict[str, Any], **policies: object) -> None:
    gateway.manage("PATCH", f"/manage/projects/{token['project_id']}", policies).raise_for_status()


def allowed(gateway: Gateway, **policies: Any) -> dict[str, Any]:
    """Make a token with policies, in a project of its own."""
    return gateway.make_token(**policies)


def answered(response: httpx.Response) -> tuple[int, str | None]:
    return response.status_code, response.json().get("code") if response.is_error else None


PASSED = (200, None)
MODEL, ENDPOINT, IP = ((403, f"{what}_not_allowed") for what in ("model", "endpoint", "ip"))


def refusals(gateway: Gateway, token: dict[str, Any]) -> dict[str, int]:
    """Return the numbers of a token's refusals by their codes, as the store has them."""
    rows = gateway.manage("GET", f"/manage/requests?tokenId={token['id']}").raise_for_status().json()["data"]
    counts: Counter[str] = Counter()
    for row in rows:
        counts[row["code"]] += row["repeats"] or 0
    return {code: count for code, count in counts.items() if count}


def chat(gateway: Gateway, token: dict[str, Any], model: str = MINI, **fields: object) -> httpx.Response:
    body = {"model": model, "messages": MESSAGES, **fields}
    return httpx.post(f"{gateway.url}{CHAT}", headers=bearer(token), json=body, timeout=30)


@on_each_store
def test_models_are_allowed_by_the_token_and_its_project_from_the_next_request_on(
    gateway: Gateway, upstream: DemoUpstream
) -> None:
    upstream.clear()
    token = allowed(gateway, allowed_models=[MINI])
    assert answered(chat(gateway, token)) == PASSED
    refused = chat(gateway, token, "gpt-4o")
    assert answered(refused) == MODEL
    assert refused.json()["message"] == "The token's 'allowed_models' do not include 'gpt-4o'."
    allow_project(gateway, token, allowed_models=["gpt-4o"])
    assert "The project's 'allowed_models'" in chat(gateway, token).json()["message"]
    allow(gateway, token, allowed_models=None)
    assert [answered(chat(gateway, token, model)) for model in (MINI, "gpt-4o")] == [MODEL, PASSED]
    allow_project(gateway, token, allowed_models=[])
    assert answered(chat(gateway, token, "gpt-4o")) == MODEL
    assert gateway.token(token["id"])["request_count"] == upstream.count() == 2
    wait_until(lambda: refusals(gateway, token) == {"model_not_allowed": 4})


def test_a_star_in_a_model_stands_for_any_characters(gateway: Gateway) -> None:
    token = allowed(gateway, allowed_models=["gpt-4o*"])
    assert [answered(chat(gateway, token, model)) for model in ("gpt-4o", MINI, "gpt-4.1")] == [PASSED, PASSED, MODEL]
    shown = httpx.get(f"{gateway.url}/v1/models", headers=bearer(token)).json()["data"]
    assert {model["id"] for model in shown} == {"gpt-4o", MINI}
    for name, status in {MINI: 200, "gpt-4.1": 404}.items():
        assert httpx.get(f"{gateway.url}/v1/models/{name}", headers=bearer(token)).status_code == status


def test_an_sdk_raises_the_reason(gateway: Gateway) -> None:
    token = allowed(gateway, allowed_models=[MINI])
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=token["token"], max_retries=0) as client:
        with pytest.raises(openai.PermissionDeniedError) as refused:
            client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello!"}])
        assert refused.value.body == "The token's 'allowed_models' do not include 'gpt-4o'."
        stream = client.chat.completions.create(
            model=MINI, messages=[{"role": "user", "content": "Hello!"}], stream=True
        )
        assert "".join(part.choices[0].delta.content or "" for part in stream if part.choices)
        with pytest.raises(openai.PermissionDeniedError):
            client.embeddings.create(model="text-embedding-3-small", input="a")


# Ways around.

NAMED = json.dumps({"model": MINI, "messages": MESSAGES}).encode()
FORM = {"Content-Type": "multipart/form-data; boundary=b"}


def form(*parts: str) -> bytes:
    return "".join(f"--b\r\nContent-Disposition: form-data; {part}\r\n" for part in parts).encode() + b"--b--\r\n"


AROUND: Mapping[str, tuple[str, Mapping[str, str], bytes]] = {
    "another model": (CHAT, {}, NAMED.replace(b"mini", b"maxi")),
    "no model": (CHAT, {}, b'{"messages": []}'),
    "no body": (CHAT, {}, b""),
    "the key twice": (CHAT, {}, b'{"model": "gpt-4o", "model": "gpt-4o-mini"}'),
    "the key twice, escaped": (CHAT, {}, b'{"m\\u006fdel": "gpt-4o", "model": "gpt-4o-mini"}'),
    "the key in another case": (CHAT, {}, b'{"model": "gpt-4o-mini", "Model": "gpt-4o"}'),
    "the key and a NUL": (CHAT, {}, b'{"model": "gpt-4o-mini", "model\\u0000": "gpt-4o"}'),
    "only at another depth": (CHAT, {}, b'{"metadata": {"model": "gpt-4o-mini"}}'),
    "no text": (CHAT, {}, b'{"model": ["gpt-4o-mini"]}'),
    "a fallback": (CHAT, {}, b'{"model": "gpt-4o-mini", "models": ["gpt-4o"]}'),
    "a tool's model": ("/v1/responses", {}, b'{"model": "gpt-4o-mini", "tools": [{"type": "x", "model": "gpt-4o"}]}'),
    "UTF-16": (CHAT, {}, NAMED.decode().encode("utf-16")),
    "another charset": (CHAT, {"Content-Type": "application/json; charset=utf-7"}, NAMED),
    "trailing bytes": (CHAT, {}, NAMED + b'{"model": "gpt-4o"}'),
    "a comment": (CHAT, {}, b'{"model": "gpt-4o-mini" /* "model": "gpt-4o" */}'),
    "another type": (CHAT, {"Content-Type": "text/plain"}, NAMED),
    "urlencoded": (CHAT, {"Content-Type": "application/x-www-form-urlencoded"}, b"model=gpt-4o-mini"),
    "compressed": (CHAT, {"Content-Encoding": "gzip"}, gzip.compress(NAMED.replace(b"mini", b"maxi"))),
    "not compressed": (CHAT, {"Content-Encoding": "gzip"}, NAMED),
    "deflated": (CHAT, {"Content-Encoding": "deflate"}, NAMED),
    "the query alone": (f"{CHAT}?model={MINI}", {}, b"{}"),
    "another in the query": (f"{CHAT}?model=gpt-4o", {}, NAMED),
    "the form's field twice": (
        "/v1/audio/transcriptions",
        FORM,
        form('name="model"\r\n\r\ngpt-4o-mini', 'name="model"\r\n\r\ngpt-4o'),
    ),
    "before the form": ("/v1/audio/transcriptions", FORM, b'{"model":"x"}\r\n' + form('name="model"\r\n\r\n' + MINI)),
    "a file": ("/v1/audio/transcriptions", FORM, form('name="model"; filename="a"\r\n\r\n' + MINI)),
    "the path": ("/v1/engines/gpt-4o/completions", {}, b"{}"),
    "an odd path": ("/v1/files/%252e%252e/chat/completions", {}, NAMED),
    "a stored prompt": ("/v1/responses", {}, b'{"prompt": {"id": "pmpt_1"}}'),
    "a batch": ("/v1/batches", {}, b'{"model": "gpt-4o-mini"}'),
    "a fine-tuning job": ("/v1/fine_tuning/jobs", {}, b'{"model": "gpt-4o-mini"}'),
    "a run": ("/v1/threads/thread_1/runs", {}, b'{"assistant_id": "asst_1"}'),
    "a run of evals": ("/v1/evals/eval_1/runs", {}, b'{"model": "gpt-4o-mini"}'),
    "a router's header": (CHAT, {"x-portkey-config": "pc-1"}, NAMED),
}


@pytest.mark.parametrize("around", AROUND)
def test_no_way_around_reaches_the_upstream(relay: Relay, around: str) -> None:
    target, headers, content = AROUND[around]
    relay.expect()
    token = allowed(relay.gateway, allowed_models=[MINI])
    sent = {"Content-Type": JSON, **headers, **bearer(token)}
    for body in (content, iter([content])):
        response = httpx.post(f"{relay.gateway.url}{target}", headers=sent, content=body, timeout=30)
        assert answered(response) == MODEL
    assert relay.upstream.conversations == []
    assert relay.gateway.token(token["id"])["request_count"] == 0


PASSING: Mapping[str, tuple[str, str, Mapping[str, str], bytes]] = {
    "the model": ("POST", CHAT, {}, NAMED),
    "escapes": ("POST", CHAT, {}, b'{"\\u006dodel": "gpt-4o-m\\u0069ni", "messages": []}'),
    "another one in free content": ("POST", CHAT, {}, b'{"metadata": {"model": "gpt-4o"}, "model": "gpt-4o-mini"}'),
    "compressed": ("POST", CHAT, {"Content-Encoding": "gzip"}, gzip.compress(NAMED)),
    "a form": ("POST", "/v1/audio/transcriptions", FORM, form(f'name="model"\r\n\r\n{MINI}')),
    "a run with its model": ("POST", "/v1/threads/thread_1/runs", {}, b'{"assistant_id": "a", "model": "gpt-4o-mini"}'),
    "a path": ("POST", f"/v1/engines/{MINI}/completions", {}, b'{"prompt": "a"}'),
}
GENERATES_NOTHING: Mapping[str, tuple[str, str, Mapping[str, str], bytes]] = {
    "a file": ("POST", "/v1/files", {"Content-Type": "multipart/form-data; boundary=x"}, b"anything"),
    "a cancel": ("POST", "/v1/batches/batch_1/cancel", {}, b""),
    "a list": ("GET", "/v1/files?limit=1", {}, b""),
    "a delete": ("DELETE", "/v1/files/file_1", {}, b""),
    "counting": ("POST", "/v1/responses/input_tokens", {}, b'{"model": "gpt-4o"}'),
    "a conversation": ("POST", "/v1/conversations", {}, b'{"items": []}'),
}


@pytest.mark.parametrize("case", [*PASSING, *GENERATES_NOTHING])
def test_what_is_allowed_passes_byte_for_byte(relay: Relay, case: str) -> None:
    method, target, headers, content = {**PASSING, **GENERATES_NOTHING}[case]
    token = allowed(relay.gateway, allowed_models=[MINI] if case in PASSING else [])

    def answer_at_the_end(conversation: Conversation) -> None:
        conversation.read_head()
        end = b"\r\n0\r\n\r\n" if b"chunked" in conversation.received.lower() else content
        while not (conversation.received.endswith(end) and _body(conversation.received) == content):
            conversation.read_more()  # an answer before the end would cut the request
        conversation.send(OK)

    for body in (content, iter([content])) if content else (None,):
        relay.expect(answer_at_the_end)
        sent = {"Content-Type": JSON, **headers, **bearer(token)}
        response = httpx.request(method, f"{relay.gateway.url}{target}", headers=sent, content=body, timeout=30)
        assert response.status_code == 200
        received = relay.upstream.received()
        assert received.startswith(f"{method} {target} HTTP/1.1\r\n".encode())
        assert _body(received) == content


def _body(received: bytes) -> bytes:
    """Return the body of a request as far as it has come, without its chunks."""
    head, _, body = received.partition(b"\r\n\r\n")
    if b"chunked" not in head.lower():
        return body
    whole = b""
    while b"\r\n" in body:
        size, _, rest = body.partition(b"\r\n")
        whole, body = whole + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return whole


# Large bodies.


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory, path: str) -> Iterator[Relay]:
    """A gateway before a raw upstream, with a small MAX_SPOOL and a trusted proxy: the tests themselves."""
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(RawUpstream(answer_all()))
        gateway = stack.enter_context(
            Gateway.start(
                tmp_path_factory.mktemp("bounded"),
                upstream.url,
                MAX_SPOOL=str(MAX_SPOOL),
                TRUSTED_PROXIES="127.0.0.1",
                PLAIN_PATH=path,
            )
        )
        yield Relay(gateway, upstream)


def answer_whole(conversation: Conversation) -> None:
    """Answer a request once its body has come whole."""
    head = conversation.read_head()
    if b"chunked" in head.lower():
        while not conversation.received.endswith(b"\r\n0\r\n\r\n"):
            conversation.read_more()
        conversation.send(OK)
    else:
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        conversation.read_body(int(length.partition(b":")[2]))
        conversation.send(OK)


def large(model: str, size: int) -> bytes:
    """Return a chat of some size, whose model comes last."""
    return json.dumps({"messages": [{"role": "user", "content": "x" * size}], "model": model}).encode()


def test_a_large_body_is_seen_whole_before_the_decision(bounded: Relay) -> None:
    token = allowed(bounded.gateway, allowed_models=[MINI])
    sent = {"Content-Type": JSON, **bearer(token)}
    for content, expected in ((large(MINI, 3 * 1024 * 1024), PASSED), (large("gpt-4o", 3 * 1024 * 1024), MODEL)):
        for body in (content, iter([content[:100_000], content[100_000:]])):
            bounded.expect(answer_whole)
            response = httpx.post(f"{bounded.gateway.url}{CHAT}", headers=sent, content=body, timeout=30)
            assert answered(response) == expected
            if expected == PASSED:
                assert _body(bounded.upstream.received()) == content
            else:
                assert bounded.upstream.conversations == []
    assert bounded.gateway.token(token["id"])["request_count"] == 2


def test_a_larger_body_is_refused_with_a_clear_text(bounded: Relay) -> None:
    bounded.expect()
    token = allowed(bounded.gateway, allowed_models=[MINI])
    sent = {"Content-Type": JSON, **bearer(token)}
    content = large(MINI, MAX_SPOOL)
    packed = gzip.compress(content)
    for body, headers in ((content, {}), (iter([content]), {}), (packed, {"Content-Encoding": "gzip"})):
        response = httpx.post(f"{bounded.gateway.url}{CHAT}", headers=sent | headers, content=body, timeout=30)
        assert answered(response) == (413, "request_too_large")
        assert "MAX_SPOOL" in response.json()["message"]
    assert bounded.upstream.conversations == []
    assert bounded.gateway.token(token["id"])["request_count"] == 0
    allow(bounded.gateway, token, allowed_models=None)
    response = httpx.post(f"{bounded.gateway.url}{CHAT}", headers=sent, content=content, timeout=30)
    assert answered(response) == PASSED


def test_a_large_body_over_http2_is_seen_whole(bounded: Relay) -> None:
    bounded.expect()
    token = allowed(bounded.gateway, allowed_models=[MINI])

    async def main() -> list[int]:
        async with Http2Client.connect(bounded.gateway.port) as client:
            statuses = []
            for model in (MINI, "gpt-4o"):
                stream = client.begin("POST", CHAT, token["token"], ("content-type", JSON))
                await client.send_all(stream, large(model, 2 * 1024 * 1024))
                statuses.append(await client.status(stream))
            return statuses

    assert asyncio.run(main()) == [200, 403]
    assert len(bounded.upstream.conversations) == 1


# The list of models.


def test_a_token_sees_its_models_alone(gateway: Gateway) -> None:
    token = allowed(gateway, allowed_models=["gpt-4o-mini", "demo/with-slash"])
    everything = httpx.get(f"{gateway.url}/v1/models", headers=bearer(gateway.make_token())).json()
    for target in ("/v1/models", "/v1/models?limit=100"):
        shown = httpx.get(f"{gateway.url}{target}", headers=bearer(token))
        kept = [model for model in everything["data"] if model["id"] in token["allowed_models"]]
        assert shown.json() == everything | {"data": kept}
        assert int(shown.headers["content-length"]) == len(shown.content)
    for name, status in {"gpt-4o-mini": 200, "demo%2Fwith-slash": 200, "gpt-4o": 404, "none": 404}.items():
        response = httpx.get(f"{gateway.url}/v1/models/{name}", headers=bearer(token))
        assert response.status_code == status, name
    assert response.json()["code"] == "model_not_found"
    allow(gateway, token, allowed_models=[])
    assert httpx.get(f"{gateway.url}/v1/models", headers=bearer(token)).json()["data"] == []


def test_every_other_byte_of_the_list_is_as_it_came(relay: Relay) -> None:
    listed = b'{ "object":"list",\n"data": [ {"id":"a" , "x":1.0}, {"id":"b"},{"id":"\\u0061b"} ], "z": "\\u00e9"}\n'
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(listed) + listed
    relay.expect(answer)
    token = allowed(relay.gateway, allowed_models=["ab"])
    shown = httpx.get(f"{relay.gateway.url}/v1/models", headers=bearer(token))
    before, _, rest = listed.partition(b'{"id":"a"')
    assert shown.content.startswith(before.rstrip())
    assert shown.content.endswith(b'{"id":"\\u0061b"} ], "z": "\\u00e9"}\n')
    assert b'"id":"b"' not in shown.content
    assert b'"id":"b"' in rest
    assert b"accept-encoding: identity" in relay.upstream.received().lower()


def test_a_list_that_cannot_be_read_is_not_shown(relay: Relay) -> None:
    relay.expect(OK)
    token = allowed(relay.gateway, allowed_models=["a"])
    response = httpx.get(f"{relay.gateway.url}/v1/models", headers=bearer(token))
    assert answered(response) == (503, "service_unavailable")


# Endpoints.


def test_endpoints_are_allowed_by_method_and_path(relay: Relay) -> None:
    relay.expect()
    token = allowed(relay.gateway, allowed_endpoints=[f"POST {CHAT}", "* /v1/files*"])

    def ask(method: str, target: str) -> tuple[int, str | None]:
        return answered(httpx.request(method, f"{relay.gateway.url}{target}", headers=bearer(token)))

    passing = [("POST", CHAT), ("POST", f"{CHAT}/?a=b"), ("GET", "/v1/files"), ("DELETE", "/v1/files/file_1/x")]
    refused = [("GET", CHAT), ("POST", "/v1/embeddings"), ("POST", f"{CHAT}/x"), ("POST", "/v1/Chat/completions")]
    odd = [("GET", "/v1/files/%252e%252e/models"), ("GET", "/v1/files%00"), ("GET", "/v1/files/%ff")]
    assert [ask(*each) for each in passing] == [PASSED] * len(passing)
    assert [ask(*each) for each in (*refused, *odd)] == [ENDPOINT] * len((*refused, *odd))
    assert relay.gateway.token(token["id"])["request_count"] == len(passing)


@pytest.mark.parametrize("entry", ["POST /v1/realtime/calls", "* /v1/realtime/calls*"])
def test_a_closed_endpoint_is_opened_where_a_list_writes_it_out(relay: Relay, entry: str) -> None:
    relay.expect()
    token = relay.gateway.make_token()

    def call(target: str = "/v1/realtime/calls") -> tuple[int, str | None]:
        return answered(httpx.post(f"{relay.gateway.url}{target}", headers=bearer(token), content=b"v=0"))

    assert call() == ENDPOINT
    for too_wide in ("*", "* /v1/*", "POST /v1/realtime/*"):
        allow(relay.gateway, token, allowed_endpoints=[too_wide])
        assert call() == ENDPOINT
    allow(relay.gateway, token, allowed_endpoints=[entry])
    assert call() == PASSED
    assert call("/v1/realtime/client_secrets") == ENDPOINT
    assert call("/v1/%72ealtime/calls") == ENDPOINT
    allow_project(relay.gateway, token, allowed_endpoints=["* /v1/chat*"])
    assert call() == ENDPOINT
    allow_project(relay.gateway, token, allowed_endpoints=["*"])
    assert call() == PASSED
    allow(relay.gateway, token, allowed_endpoints=None)
    allow_project(relay.gateway, token, allowed_endpoints=[entry])
    assert call() == PASSED
    assert relay.upstream.received().count(b"POST /v1/realtime/calls ") == 3


# Addresses.


def test_addresses_are_those_that_trusted_proxies_report(bounded: Relay) -> None:
    bounded.expect()
    token = allowed(bounded.gateway, allowed_ips=["10.0.0.0/8", "2001:db8::/32"])

    def ask(**headers: str) -> tuple[int, str | None]:
        sent = bearer(token) | {name.replace("_", "-"): value for name, value in headers.items()}
        return answered(httpx.get(f"{bounded.gateway.url}/v1/files", headers=sent))

    assert ask() == IP
    assert ask(x_forwarded_for="10.1.2.3") == PASSED
    assert ask(x_forwarded_for="::ffff:10.1.2.3") == PASSED
    assert ask(x_forwarded_for="2001:db8::1") == PASSED
    assert ask(x_forwarded_for="203.0.113.1, 10.1.2.3") == PASSED
    assert ask(x_forwarded_for="10.1.2.3, 203.0.113.1") == IP
    for other in ("x_real_ip", "forwarded", "cf_connecting_ip", "true_client_ip", "x_client_ip"):
        assert ask(**{other: "for=10.1.2.3" if other == "forwarded" else "10.1.2.3"}) == IP
    allow_project(bounded.gateway, token, allowed_ips=[])
    assert ask(x_forwarded_for="10.1.2.3") == IP


def test_an_address_of_no_proxy_is_the_peers(relay: Relay) -> None:
    relay.expect()
    token = allowed(relay.gateway, allowed_ips=["10.0.0.0/8"])
    headers = bearer(token) | {"X-Forwarded-For": "10.1.2.3"}
    assert answered(httpx.get(f"{relay.gateway.url}/v1/files", headers=headers)) == IP
    allow(relay.gateway, token, allowed_ips=["127.0.0.0/8"])
    assert answered(httpx.get(f"{relay.gateway.url}/v1/files", headers=headers)) == PASSED


# WebSockets.


@contextlib.contextmanager
def talking(gateway: Gateway, token: dict[str, Any], target: str) -> Iterator[Connection]:
    url = f"{gateway.url.replace('http:', 'ws:')}{target}"
    with connect(url, additional_headers=bearer(token), proxy=None) as socket:
        yield socket


def outcome(socket: Connection, **event: object) -> tuple[str, str | None]:
    """Send an event, and return the type and the code of the event that it ends in."""
    socket.send(json.dumps(event))
    while True:
        found = json.loads(socket.recv(30))
        if found["type"] in {"response.done", "session.updated", "error"}:
            return found["type"], found.get("error", {}).get("code")


REFUSED = ("error", "model_not_allowed")
DONE, UPDATED = ("response.done", None), ("session.updated", None)


@on_each_store
def test_a_realtime_session_is_opened_and_updated_with_allowed_models(gateway: Gateway) -> None:
    token = allowed(gateway, allowed_models=["gpt-realtime"])
    for target in ("/v1/realtime", "/v1/realtime?model=gpt-4o", "/v1/realtime?model=gpt-realtime&model=gpt-4o"):
        with pytest.raises(InvalidStatus) as refused, talking(gateway, token, target):
            pass
        assert refused.value.response.status_code == 403
    with talking(gateway, token, "/v1/realtime?model=gpt-realtime") as socket:
        assert outcome(socket, type="response.create") == DONE
        assert outcome(socket, type="session.update", session={"type": "realtime", "model": "gpt-4o"}) == REFUSED
        assert outcome(socket, type="session.update", session={"type": "realtime"}) == UPDATED
        assert outcome(socket, type="response.create") == DONE
        allow(gateway, token, allowed_models=["gpt-4o"])
        assert outcome(socket, type="response.create") == REFUSED
        allow(gateway, token, allowed_models=["gpt-4o", "gpt-realtime"])
        assert outcome(socket, type="response.create") == DONE
        allow(gateway, token, allowed_endpoints=[f"POST {CHAT}"])
        assert outcome(socket, type="response.create") == ("error", "endpoint_not_allowed")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == CloseCode.POLICY_VIOLATION
    assert gateway.token(token["id"])["request_count"] == 3
