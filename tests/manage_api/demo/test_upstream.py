"""The real process, asked by the real OpenAI SDK."""

import asyncio
import http.client
import json
import math
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from openai.types.realtime import RealtimeServerEvent

PROJECT = Path(__file__).parents[3]
KEY = "sk-demo-key-of-the-tests"
PROMPT = "Tell me a story"
ANSWER = "This is the demo upstream, no model was asked. You said: Tell me a story"
MESSAGES: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "Be brief."},  # 9 characters: 3 tokens
    {"role": "user", "content": PROMPT},  # 15 characters: 4 tokens
]
DEADLINE = 10.0


class Demo:
    """A running demo upstream."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        self.port = httpx.URL(url).port or 0
        self.record_url = url.removesuffix("/v1") + "/_demo/requests"

    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = httpx.get(self.record_url).raise_for_status().json()
        return record

    def clear(self) -> None:
        httpx.delete(self.record_url).raise_for_status()

    def wait_for_last(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Poll the record until its last request meets `condition`."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            requests = self.record()["requests"]
            if requests and condition(requests[-1]):
                last: dict[str, Any] = requests[-1]
                return last
        pytest.fail(f"no such request in time: {self.record()}")


def start(*arguments: str) -> Demo:
    process = subprocess.Popen(
        [sys.executable, "-m", "manage_api.demo", "--port", "0", "--api-key", KEY, *arguments],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("demo upstream on http://127.0.0.1:"), line or process.communicate()
    return Demo(process, line.removeprefix("demo upstream on ").strip())


def stop(demo: Demo, signum: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
    """End the process; return its exit status and its output after the first line."""
    demo.process.send_signal(signum)
    out, err = demo.process.communicate(timeout=DEADLINE)
    return demo.process.returncode, out, err


@pytest.fixture(scope="module")
def running() -> Iterator[Demo]:
    demo = start("--chunk-delay", "0.001")
    try:
        yield demo
    finally:
        ended = stop(demo)
    assert ended == (0, "", "")


@pytest.fixture
def demo(running: Demo) -> Demo:
    running.clear()
    return running


@pytest.fixture
def client(demo: Demo) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=KEY, base_url=demo.url, max_retries=0) as client:
        yield client


def async_client(demo: Demo) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=KEY, base_url=demo.url, max_retries=0)


def upgrade(demo: Demo, query: str, **headers: str) -> http.client.HTTPResponse:
    """Ask for a WebSocket by hand and return the answer to the handshake, its socket closed."""
    connection = http.client.HTTPConnection("127.0.0.1", demo.port, timeout=DEADLINE)
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    try:
        connection.request("GET", f"/v1/realtime{query}", headers=handshake | headers)
        response = connection.getresponse()
        if response.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
            response.read()
        response.close()
        return response
    finally:
        connection.close()


# Models


def test_models_are_listed_and_shown(client: openai.OpenAI) -> None:
    models = list(client.models.list())

    assert {"gpt-4o-mini", "demo/with-slash"} <= {model.id for model in models}
    for model in models:
        assert client.models.retrieve(model.id) == model


def test_a_slash_in_a_model_name_arrives_encoded(demo: Demo, client: openai.OpenAI) -> None:
    client.models.retrieve("demo/with-slash")

    assert demo.record()["requests"][-1]["path"] == "/v1/models/demo%2Fwith-slash"


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("no-such-model")

    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_fine_tuned_model_can_be_deleted(client: openai.OpenAI) -> None:
    assert client.models.delete("ft:gpt-4o-mini:demo::abc123").deleted


def test_a_base_model_cannot_be_deleted(client: openai.OpenAI) -> None:
    with pytest.raises(openai.PermissionDeniedError):
        client.models.delete("gpt-4o")


# Chat completions


def test_chat(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="any-model", messages=MESSAGES)

    assert completion.model == "any-model"
    assert completion.choices[0].message.content == ANSWER
    assert completion.choices[0].finish_reason == "stop"
    assert_chat_usage(completion.usage, words=len(ANSWER.split()))


def test_streamed_chat_without_usage(client: openai.OpenAI) -> None:
    with client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True) as stream:
        chunks = list(stream)

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert not any("usage" in chunk.model_fields_set for chunk in chunks)


def test_streamed_chat_with_usage(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ) as stream:
        *chunks, last = list(stream)

    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert_chat_usage(last.usage, words=len(ANSWER.split()))
    assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) == len(ANSWER.split())


def test_async_streamed_chat(demo: Demo) -> None:
    async def talk() -> str:
        async with (
            async_client(demo) as client,
            await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True) as stream,
        ):
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(talk()) == ANSWER


def test_a_stream_has_the_bytes_of_openais(demo: Demo) -> None:
    response = httpx.post(
        f"{demo.url}/chat/completions",
        headers={"Authorization": f"Bearer {KEY}", "X-Demo-Words": "1"},
        json={"model": "gpt-4o", "messages": MESSAGES, "stream": True},
    )

    *events, done, end = response.text.split("\n\n")
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (done, end) == ("data: [DONE]", "")
    assert [json.loads(event.removeprefix("data: "))["object"] for event in events] == ["chat.completion.chunk"] * 3


@pytest.mark.parametrize("words", [1, 3, 500])
def test_the_number_of_words_can_be_chosen(client: openai.OpenAI, words: int) -> None:
    completion = client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, extra_headers={"X-Demo-Words": str(words)}
    )

    assert len((completion.choices[0].message.content or "").split()) == words
    assert_chat_usage(completion.usage, words)


def test_content_may_come_in_parts(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": [{"type": "text", "text": "in parts"}]}]
    )

    assert (completion.choices[0].message.content or "").endswith("You said: in parts")


def assert_chat_usage(usage: openai.types.CompletionUsage | None, words: int) -> None:
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, words, 7 + words)
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None


# Responses


def test_response(client: openai.OpenAI) -> None:
    response = client.responses.create(model="gpt-4o", input=PROMPT, instructions="Be brief.")

    assert (response.status, response.output_text) == ("completed", ANSWER)
    assert_responses_usage(response.usage)


def test_streamed_response(client: openai.OpenAI) -> None:
    message: Any = [{"role": "user", "content": [{"type": "input_text", "text": PROMPT}]}]
    with client.responses.create(model="gpt-4o", input=message, instructions="Be brief.", stream=True) as stream:
        events = list(stream)

    words = len(ANSWER.split())
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * words,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == ANSWER
    completed = events[-1]
    assert completed.type == "response.completed"
    assert completed.response.output_text == ANSWER
    assert_responses_usage(completed.response.usage)


def test_the_sdk_accumulates_a_streamed_response(demo: Demo) -> None:
    async def talk() -> str:
        async with (
            async_client(demo) as client,
            client.responses.stream(model="gpt-4o", input=PROMPT) as stream,
        ):
            return (await stream.get_final_response()).output_text

    assert asyncio.run(talk()) == ANSWER


def assert_responses_usage(usage: openai.types.responses.ResponseUsage | None) -> None:
    words = len(ANSWER.split())
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (7, words, 7 + words)
    assert usage.input_tokens_details.cached_tokens == usage.output_tokens_details.reasoning_tokens == 0


# Embeddings


def test_embeddings_are_the_same_in_both_formats(client: openai.OpenAI) -> None:
    packed = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    plain = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"], encoding_format="float")

    assert [len(item.embedding) for item in packed.data] == [1536, 1536]
    for left, right in zip(packed.data, plain.data, strict=True):
        assert left.embedding == pytest.approx(right.embedding, abs=1e-6)
        assert math.hypot(*right.embedding) == pytest.approx(1)
    assert packed.data[0].embedding != packed.data[1].embedding
    assert packed.usage.prompt_tokens == packed.usage.total_tokens == 2


def test_embeddings_of_tokens_with_dimensions(client: openai.OpenAI) -> None:
    made = client.embeddings.create(model="text-embedding-3-small", input=[1, 2, 3], dimensions=8)

    assert [len(item.embedding) for item in made.data] == [8]
    assert made.usage.prompt_tokens == 3


# Files


def test_files(client: openai.OpenAI) -> None:
    content = bytes(range(256)) * 3
    file = client.files.create(file=("räksmörgås.bin", content), purpose="user_data")

    assert (file.bytes, file.filename, file.purpose) == (len(content), "räksmörgås.bin", "user_data")
    assert client.files.retrieve(file.id) == file
    assert list(client.files.list(purpose="user_data")) == [file]
    assert list(client.files.list(purpose="batch")) == []
    assert client.files.content(file.id).read() == content
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_files_are_listed_in_pages(client: openai.OpenAI) -> None:
    ids = [client.files.create(file=b"text", purpose="batch").id for _ in range(5)]

    assert [file.id for file in client.files.list(limit=2)] == ids[::-1]
    assert [file.id for file in client.files.list(limit=2, order="asc")] == ids
    for file_id in ids:
        client.files.delete(file_id)


def test_a_file_larger_than_tornados_own_limit_is_kept(client: openai.OpenAI) -> None:
    size = 101 * 1024**2

    file = client.files.create(file=b"x" * size, purpose="user_data")

    assert file.bytes == size
    client.files.delete(file.id)


# Realtime


def say(text: str) -> Any:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def test_a_realtime_conversation(demo: Demo) -> None:
    async def talk() -> list[RealtimeServerEvent]:
        async with async_client(demo) as client, client.realtime.connect(model="gpt-realtime") as connection:
            events = [await connection.recv()]
            await connection.session.update(session={"type": "realtime", "instructions": "Be brief."})
            await connection.conversation.item.create(item=say(PROMPT))
            await connection.response.create()
            while events[-1].type != "response.done":
                events.append(await connection.recv())
            return events

    events = asyncio.run(talk())

    words = len(ANSWER.split())
    assert [event.type for event in events] == [
        "session.created",
        "session.updated",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * words,
        "response.output_text.done",
        "response.content_part.done",
        "conversation.item.added",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == ANSWER
    done = events[-1]
    assert done.type == "response.done"
    usage = done.response.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (7, words, 7 + words)
    assert demo.wait_for_last(lambda last: last["finished"])["path"] == "/v1/realtime?model=gpt-realtime"


def test_realtime_continues_after_a_wrong_event(demo: Demo) -> None:
    async def talk() -> list[RealtimeServerEvent]:
        async with async_client(demo) as client, client.realtime.connect(model="gpt-realtime") as connection:
            await connection.send_raw("no JSON")
            await connection.input_audio_buffer.clear(event_id="mine")
            await connection.conversation.item.create(item=say("still here"))
            return [await connection.recv() for _ in range(4)]

    events = asyncio.run(talk())

    assert [event.type for event in events] == [
        "session.created",
        "error",
        "error",
        "conversation.item.added",
    ]
    assert [event.error.event_id for event in events if event.type == "error"] == [None, "mine"]


async def leave_after_one_word(demo: Demo, then: Callable[[], Any]) -> Any:
    """Ask for a long realtime response and do `then` after its first word, before the client closes.

    The words come slowly enough for the client's queue: once that is full, its close takes ten seconds.
    """
    long = {"X-Demo-Words": "100000", "X-Demo-Chunk-Delay": "0.02"}
    async with (
        async_client(demo) as client,
        client.realtime.connect(model="gpt-realtime", extra_headers=long) as connection,
    ):
        await connection.response.create()
        async for event in connection:
            if event.type == "response.output_text.delta":
                break
        return await asyncio.to_thread(then)


def test_a_realtime_client_may_close_during_a_response(demo: Demo) -> None:
    record = asyncio.run(leave_after_one_word(demo, demo.record))

    assert record["requests"][-1]["finished"] is False
    assert demo.wait_for_last(lambda last: last["finished"])["hung_up"] is False


def test_a_realtime_client_without_a_close_frame_is_recorded_as_hung_up(demo: Demo) -> None:
    response = upgrade(demo, "?model=gpt-realtime", Authorization=f"Bearer {KEY}")

    assert response.status == 101
    assert demo.wait_for_last(lambda last: last["hung_up"])["finished"] is False


def test_realtime_selects_the_realtime_subprotocol(demo: Demo) -> None:
    offered = {
        "Authorization": f"Bearer {KEY}",
        "Sec-WebSocket-Protocol": "openai-beta.realtime-v1, realtime",
    }

    response = upgrade(demo, "?model=gpt-realtime", **offered)

    assert response.getheader("Sec-WebSocket-Protocol") == "realtime"


@pytest.mark.parametrize(("query", "key", "status"), [("?model=m", "sk-wrong", 401), ("", KEY, 400)])
def test_realtime_refuses_before_the_upgrade(demo: Demo, query: str, key: str, status: int) -> None:
    assert upgrade(demo, query, Authorization=f"Bearer {key}").status == status
    assert demo.record()["requests"][-1]["finished"]


# Keys and other errors


def test_a_wrong_key_is_refused_and_not_repeated(demo: Demo) -> None:
    with (
        openai.OpenAI(api_key="sk-wrong-key", base_url=demo.url, max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.models.list()

    assert caught.value.code == "invalid_api_key"
    assert caught.value.type == "invalid_request_error"
    assert "sk-wrong-key" not in caught.value.response.text


@pytest.mark.parametrize("authorization", ["", "Bearer", KEY, f"Basic {KEY}", "Bearer schlüssel"])
def test_no_other_credential_is_accepted(demo: Demo, authorization: str) -> None:
    response = httpx.get(f"{demo.url}/models", headers=[(b"Authorization", authorization.encode())])

    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("line", "headers", "body", "status"),
    [
        ("GET /nothing", {}, b"", 404),
        ("GET /models/demo/with-slash", {}, b"", 404),
        ("PUT /models", {}, b"", 405),
        ("BREW /models", {}, b"", 405),
        ("GET /realtime?model=m", {}, b"", 400),
        ("GET /realtime?model=m", {"Upgrade": "websocket", "Connection": "Upgrade"}, b"", 400),
        ("POST /chat/completions", {}, b"no JSON", 400),
        ("POST /chat/completions", {}, b"[]", 400),
        ("POST /chat/completions", {}, b'{"messages": []}', 400),
        ("POST /chat/completions", {}, b'{"model": "m", "messages": "hi"}', 400),
        ("POST /chat/completions", {}, b'{"model": "m", "messages": ["hi"]}', 400),
        ("POST /responses", {}, b'{"model": "m"}', 400),
        ("POST /responses", {"X-Demo-Words": "0"}, b'{"model": "m", "input": "hi"}', 400),
        (
            "POST /responses",
            {"X-Demo-Chunk-Delay": "nan"},
            b'{"model": "m", "input": "hi", "stream": 1}',
            400,
        ),
        ("POST /embeddings", {}, b'{"model": "m", "input": ""}', 400),
        ("POST /embeddings", {}, b'{"model": "m", "input": "hi", "dimensions": 0}', 400),
        ("POST /embeddings", {}, b'{"model": "m", "input": "hi", "encoding_format": "text"}', 400),
        ("POST /files", {"Content-Type": "multipart/form-data"}, b"", 400),
        ("POST /files", {}, b"", 400),
        ("GET /files?limit=0", {}, b"", 400),
    ],
)
def test_errors_have_openais_shape(demo: Demo, line: str, headers: dict[str, str], body: bytes, status: int) -> None:
    key = {"Authorization": f"Bearer {KEY}"}
    method, path = line.split(" ")

    response = httpx.request(method, f"{demo.url}{path}", headers=key | headers, content=body)

    assert response.status_code == status
    assert response.json()["error"].keys() == {"message", "type", "param", "code"}
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert_identified(response)


# The headers of every response, and the record


def raw_request(line: str, *headers: str) -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", "Host: demo", f"Authorization: Bearer {KEY}", *headers, "", ""]).encode()


def assert_identified(response: httpx.Response) -> None:
    assert response.headers["x-request-id"].startswith("req_")
    assert int(response.headers["openai-processing-ms"]) >= 0


def test_the_record_shows_what_arrived(demo: Demo) -> None:
    response = httpx.get(f"{demo.url}/models?a=%20b", headers={"Authorization": f"Bearer {KEY}", "X-Twice": "1"})

    assert_identified(response)
    record = demo.record()
    assert record["count"] == 1
    (request,) = record["requests"]
    assert request["id"] == response.headers["x-request-id"]
    assert (request["method"], request["path"]) == ("GET", "/v1/models?a=%20b")
    assert ["Authorization", f"Bearer {KEY}"] in request["headers"]
    assert (request["finished"], request["hung_up"]) == (True, False)


def test_the_record_keeps_the_last_thousand(demo: Demo) -> None:
    with httpx.Client(base_url=demo.url) as client:
        for number in range(1001):
            client.get(f"/unknown/{number}")

    record = demo.record()
    assert (record["count"], len(record["requests"])) == (1001, 1000)
    assert [record["requests"][end]["path"] for end in (0, -1)] == ["/v1/unknown/1", "/v1/unknown/1000"]


@pytest.mark.parametrize("path", ["/chat/completions", "/responses"])
def test_a_hang_up_ends_a_stream(demo: Demo, path: str) -> None:
    body = {"model": "m", "input": "hi", "messages": MESSAGES, "stream": True}
    headers = {"Authorization": f"Bearer {KEY}", "X-Demo-Words": "100000"}

    with httpx.stream("POST", f"{demo.url}{path}", json=body, headers=headers) as response:
        next(response.iter_raw())
        assert demo.record()["requests"][-1]["finished"] is False

    assert demo.wait_for_last(lambda last: last["hung_up"])["finished"] is False


def test_a_hang_up_of_a_client_that_does_not_read_is_noticed(demo: Demo, client: openai.OpenAI) -> None:
    file = client.files.create(file=b"x" * 32 * 1024**2, purpose="user_data")

    with socket.create_connection(("127.0.0.1", demo.port)) as connection:
        connection.sendall(raw_request(f"GET /v1/files/{file.id}/content"))
        connection.recv(1)
        assert demo.record()["requests"][-1]["finished"] is False

    assert demo.wait_for_last(lambda last: last["hung_up"])["finished"] is False
    client.files.delete(file.id)


def test_a_hang_up_ends_a_long_wait(demo: Demo) -> None:
    body = b'{"model": "m", "input": "hi"}'
    request = raw_request("POST /v1/responses", f"Content-Length: {len(body)}", "X-Demo-Chunk-Delay: 3600")

    with socket.create_connection(("127.0.0.1", demo.port)) as connection:
        connection.sendall(request + body)
        demo.wait_for_last(lambda last: not last["finished"])

    assert demo.wait_for_last(lambda last: last["hung_up"])["finished"] is False


# The process


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_even_in_the_middle_of_streams(signum: signal.Signals) -> None:
    demo = start()
    body = {"model": "m", "messages": MESSAGES, "stream": True}
    headers = {"Authorization": f"Bearer {KEY}", "X-Demo-Words": "100000"}

    with httpx.stream("POST", f"{demo.url}/chat/completions", json=body, headers=headers) as response:
        next(response.iter_raw())
        assert stop(demo, signum) == (0, "", "")


def test_a_signal_ends_it_cleanly_in_the_middle_of_a_realtime_response() -> None:
    demo = start()

    assert asyncio.run(leave_after_one_word(demo, lambda: stop(demo))) == (0, "", "")
