"""The OpenAI SDK works with nothing changed but its base URL and its key."""

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from openai.types.realtime import RealtimeResponseUsage
from support.gateway.gateway import Gateway
from support.gateway.processes import wait_until

MODEL = "gpt-4o-mini"
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me a story"}]
ANSWER = "This is the demo upstream, no model was asked. You said: Tell me a story"


@pytest.fixture
def token(gateway: Gateway) -> dict[str, Any]:
    return gateway.make_token()


@pytest.fixture
def client(gateway: Gateway, token: dict[str, Any]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=token["token"]) as client:
        yield client


def settled(gateway: Gateway, token: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the requests of a token, newest first, once they are settled."""

    def rows() -> list[dict[str, Any]]:
        found = gateway.manage("GET", f"/manage/requests?tokenId={token['id']}").raise_for_status()
        return list(found.json()["data"])

    wait_until(lambda: all(row["usage_source"] for row in rows()))
    return rows()


def spent(gateway: Gateway, token: dict[str, Any]) -> tuple[object, ...]:
    """Return the usage of the only request of a token in the ledger, once it is settled."""
    (row,) = settled(gateway, token)
    return row["usage_source"], row["model"], row["input_tokens"], row["output_tokens"]


def test_a_chat_completion_is_answered(client: openai.OpenAI, gateway: Gateway, token: dict[str, Any]) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert completion.choices[0].message.content == ANSWER
    usage = completion.usage
    assert usage is not None
    assert spent(gateway, token) == ("observed", MODEL, usage.prompt_tokens, usage.completion_tokens)
    assert gateway.token(token["id"])["request_count"] == 1


def test_a_token_with_the_prefix_of_a_key_is_accepted(gateway: Gateway, token: dict[str, Any]) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=f"sk-{token['token']}") as client:
        assert client.models.list().data
    assert gateway.token(token["id"])["request_count"] == 1


def test_the_azure_client_works(gateway: Gateway, token: dict[str, Any]) -> None:
    with openai.AzureOpenAI(base_url=f"{gateway.url}/v1", api_key=token["token"], api_version="1") as client:
        assert client.models.list().data
    assert gateway.token(token["id"])["request_count"] == 1


def test_a_key_that_the_upstream_rejects_is_not_retried(gateway: Gateway) -> None:
    token = gateway.make_token(gateway.make_project(api_key="sk-that-the-upstream-rejects")["id"])
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=token["token"]) as client:
        with pytest.raises(openai.InternalServerError) as rejected:
            client.models.list()
        body = rejected.value.response.json()
        assert (rejected.value.status_code, body["code"]) == (503, "upstream_key_rejected")
        assert body["description"] == "invalid_api_key"
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    assert gateway.token(token["id"])["request_count"] == 2


def test_a_streamed_chat_is_estimated_without_its_usage(
    client: openai.OpenAI, gateway: Gateway, token: dict[str, Any]
) -> None:
    stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == ANSWER
    # By the model's own tokenizer, as the client did not ask for the usage: 4 for "Tell me a story", 7 around it.
    assert spent(gateway, token) == ("estimated", MODEL, 11, 18)


def test_a_streamed_chat_with_usage_is_metered(client: openai.OpenAI, gateway: Gateway, token: dict[str, Any]) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    *_, usage = [chunk.usage for chunk in stream]
    assert usage is not None
    assert spent(gateway, token) == ("observed", MODEL, usage.prompt_tokens, usage.completion_tokens)


def test_a_chat_is_streamed_by_the_async_client(gateway: Gateway, token: dict[str, Any]) -> None:
    async def read() -> str:
        base_url = f"{gateway.url}/v1"
        async with openai.AsyncOpenAI(base_url=base_url, api_key=token["token"]) as client:
            stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(read()) == ANSWER


def test_responses(client: openai.OpenAI, gateway: Gateway, token: dict[str, Any]) -> None:
    response = client.responses.create(model=MODEL, input="Tell me a story")
    assert response.output_text == ANSWER
    assert response.usage is not None
    expected = ("observed", MODEL, response.usage.input_tokens, response.usage.output_tokens)
    assert spent(gateway, token) == expected


def test_streamed_responses(client: openai.OpenAI, gateway: Gateway, token: dict[str, Any]) -> None:
    with client.responses.stream(model=MODEL, input="Tell me a story") as stream:
        events = [event.type for event in stream]
        response = stream.get_final_response()
    assert response.output_text == ANSWER
    assert events[0] == "response.created"
    assert events[-1] == "response.completed"
    assert response.usage is not None
    expected = ("observed", MODEL, response.usage.input_tokens, response.usage.output_tokens)
    assert spent(gateway, token) == expected


def test_embeddings(client: openai.OpenAI, gateway: Gateway, token: dict[str, Any]) -> None:
    created = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    assert [embedding.index for embedding in created.data] == [0, 1]
    assert spent(gateway, token) == ("observed", "text-embedding-3-small", created.usage.prompt_tokens, None)


def test_models(client: openai.OpenAI) -> None:
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve("demo/with-slash").id == "demo/with-slash"


def test_files(client: openai.OpenAI) -> None:
    content = b"\x00\xff" * (2 * 1024 * 1024)  # large enough to be streamed both ways
    uploaded = client.files.create(file=("data.bin", content), purpose="assistants")
    assert client.files.content(uploaded.id).read() == content
    assert client.files.delete(uploaded.id).deleted


def test_realtime_over_a_websocket(gateway: Gateway, token: dict[str, Any]) -> None:
    async def converse(number: int) -> tuple[list[str], list[RealtimeResponseUsage | None]]:
        base_url, websocket_url = f"{gateway.url}/v1", f"ws://127.0.0.1:{gateway.port}/v1"
        client = openai.AsyncOpenAI(base_url=base_url, websocket_base_url=websocket_url, api_key=token["token"])
        events: list[str] = []
        usages: list[RealtimeResponseUsage | None] = []
        async with client, client.realtime.connect(model="gpt-realtime") as connection:
            await connection.response.create()
            async for event in connection:
                events.append(event.type)
                if event.type == "response.done":
                    usages.append(event.response.usage)
                    if len(usages) == number:
                        break
                    await connection.response.create()
        return events, usages

    events, usages = asyncio.run(converse(3))
    assert events[0] == "session.created"
    assert "response.output_text.delta" in events
    assert gateway.token(token["id"])["request_count"] == 3
    used = [(usage.input_tokens or 0, usage.output_tokens or 0) for usage in usages if usage]
    *further, opening = settled(gateway, token)
    rows = [opening, *reversed(further)]
    assert [(row["input_tokens"], row["output_tokens"]) for row in rows] == used
    assert [row["session_id"] for row in rows] == [None, opening["id"], opening["id"]]
    assert {(row["usage_source"], row["model"], row["status"]) for row in rows} == {("observed", "gpt-realtime", 101)}


def test_a_realtime_response_beyond_the_limit_is_an_error_event(gateway: Gateway) -> None:
    async def converse(api_key: str) -> list[Any]:
        base_url, websocket_url = f"{gateway.url}/v1", f"ws://127.0.0.1:{gateway.port}/v1"
        client = openai.AsyncOpenAI(base_url=base_url, websocket_base_url=websocket_url, api_key=api_key)
        events: list[Any] = []
        async with client, client.realtime.connect(model="gpt-realtime") as connection:
            await connection.response.create()
            async for event in connection:
                events.append(event)
                if event.type == "response.done":
                    await connection.response.create(event_id="mine")
                elif event.type == "error":
                    break
        return events

    token = gateway.make_token(max_requests=1)
    *_, done, refused = asyncio.run(converse(token["token"]))
    assert done.type == "response.done"
    assert (refused.error.code, refused.error.event_id) == ("insufficient_quota", "mine")
    assert gateway.token(token["id"])["request_count"] == 1


def test_a_wrong_token_is_the_sdks_own_error(gateway: Gateway) -> None:
    unknown = "11111111-1111-4111-8111-111111111111"
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=unknown) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert caught.value.code == "invalid_token"
    assert "token" in caught.value.message


def test_a_used_up_token_is_the_sdks_own_error_and_not_retried(gateway: Gateway) -> None:
    token = gateway.make_token(max_requests=1)
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=token["token"], max_retries=5) as client:
        client.models.list()
        log = gateway.proxies[0].process.log
        before = log.read_text().count("insufficient_quota")
        with pytest.raises(openai.RateLimitError) as caught:
            client.models.list()
    assert caught.value.code == "insufficient_quota"
    assert log.read_text().count("insufficient_quota") == before + 1
