from pathlib import Path

import pytest
from mitmproxy import http
from support.clients.http2 import Http2Client
from support.gateway.inprocess import CHUNKED, CLOSE, assert_json_error, head_and_body, run, running
from support.gateway.processes import free_port
from support.gateway.requests import UPGRADE
from support.stores.stores import API_KEY, rows
from support.upstreams.upstreams import OK, Conversation, RawUpstream, answer_all

from addon.exchange import Exchanges
from store.management.projects import Projects
from store.management.tokens import Tokens

pytestmark = pytest.mark.paths("on", "off")


def test_the_key_is_on_the_wire_and_never_on_the_flow(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[str] = []

        def answer(conversation: Conversation) -> None:
            conversation.read_head()
            seen.append(repr(proxy.flows[-1].get_state()))  # in flight
            conversation.send(OK)

        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                status, headers, body = head_and_body(await proxy.ask(proxy.request()))
                flow = await proxy.end_of_flow()
            assert (status, body) == (200, b"{}")
            assert f"authorization: Bearer {API_KEY}\r\n".encode() in upstream.received()
            assert proxy.token.value.encode() not in upstream.received()
        for state in (*seen, repr(flow.get_state())):
            assert API_KEY not in state
            assert proxy.token.value not in state
        assert API_KEY not in str(headers)
        assert len(proxy.exchanges) == 0

    run(main())


def test_requests_of_a_connection_share_one_to_the_upstream(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                for _ in range(3):
                    writer.write(proxy.request(headers="").encode())
                    await reader.readuntil(b"{}")
            assert len(upstream.conversations) == 1
            assert upstream.received().count(f"Bearer {API_KEY}\r\n".encode()) == 3

    run(main())


def test_a_replaced_key_is_sent_on_the_open_connection(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                writer.write(proxy.request(headers="").encode())
                await reader.readuntil(b"{}")
                Projects(proxy.store).update(proxy.token.project_id, {"api_key": "sk-new"})
                writer.write(proxy.request(headers="").encode())
                await reader.readuntil(b"{}")
            assert b"Bearer sk-new\r\n" in upstream.received()
            assert len(upstream.conversations) == 1

    run(main())


def test_a_refused_request_opens_no_connection(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                Tokens(proxy.store).revoke(proxy.token.id)
                refused = assert_json_error(await proxy.ask(proxy.request()), 401, "token_inactive")
                assert refused["www-authenticate"] == "Bearer"
                assert_json_error(await proxy.ask(proxy.request("GET /v2")), 404, "not_found")
                large = proxy.request("POST /v1/x", headers=f"{CLOSE}Content-Length: 9999999\r\n")
                assert_json_error(await proxy.ask_and_stay(large), 401, "token_inactive")
                chunked = proxy.request("POST /v1/x", headers=CHUNKED)
                assert_json_error(await proxy.ask_and_stay(chunked), 401, "token_inactive")
            assert upstream.conversations == []

    run(main())


class Redirect:
    """An addon that changes the destination of an admitted request, as an operator may do in mitmweb."""

    def __init__(self, **changes: object) -> None:
        self.changes = changes

    def request(self, flow: http.HTTPFlow) -> None:
        for name, value in self.changes.items():
            setattr(flow.request, name, value)


def test_a_grant_holds_for_its_own_destination_only(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream, RawUpstream(answer_all()) as attacker:
            async with running(tmp_path, upstream.url) as proxy:
                proxy.master.addons.add(Redirect(port=attacker.port))
                assert_json_error(await proxy.ask(proxy.request()), 403, "destination_refused")
            assert attacker.conversations == upstream.conversations == []

    run(main())


@pytest.mark.parametrize("change", [{"host": "localhost"}, {"scheme": "https"}, {"host_header": "other.example"}])
def test_a_host_is_pinned_under_every_name(tmp_path: Path, change: dict[str, str]) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                proxy.master.addons.add(Redirect(**change))
                assert_json_error(await proxy.ask(proxy.request()), 403, "destination_refused")
            assert upstream.conversations == []

    run(main())


@pytest.mark.parametrize("path", ["/admin", "/health", "/token", "/token?x"])
def test_a_request_that_was_edited_after_validation_is_validated_again(tmp_path: Path, path: str) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                proxy.master.addons.add(Redirect(path=path))
                assert_json_error(await proxy.ask(proxy.request()), 404, "not_found")
            assert upstream.conversations == []

    run(main())


def test_a_reserved_endpoint_is_refused_for_every_kind_of_request(tmp_path: Path) -> None:
    upgrade = "".join(f"{name}: {value}\r\n" for name, value in UPGRADE)
    requests = {
        "GET /v1/realtime/calls": upgrade,
        "POST /v1/realtime/calls": f"{CLOSE}Content-Length: 9999999\r\n",
        "POST /v1/realtime%2fcalls": CHUNKED,
    }

    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                for line, headers in requests.items():
                    answer = await proxy.ask_and_stay(proxy.request(line, headers=headers))
                    assert_json_error(answer, 403, "endpoint_not_allowed")
                async with Http2Client.connect(proxy.port) as client:
                    path = "/v1/realtime/calls"
                    streams = [client.begin("POST", path, proxy.token.value, end_stream=end) for end in (True, False)]
                    assert [await client.status(stream) for stream in streams] == [403, 403]
                assert Tokens(proxy.store).get(proxy.token.id) == proxy.token
                assert rows(proxy.store, "request") == []
            assert upstream.conversations == []

    run(main())


RESERVED_EDITS = [
    ("GET /v1/models", {"path": "/v1/keys"}),
    ("GET /v1/models", {"path": "/v1/realtime%2Fclient_secrets?x"}),
    ("GET /v1/realtime", {"method": "POST"}),
]


@pytest.mark.parametrize(("line", "changes"), RESERVED_EDITS)
def test_a_request_that_was_edited_towards_a_reserved_endpoint_is_refused(
    tmp_path: Path, line: str, changes: dict[str, str]
) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                proxy.master.addons.add(Redirect(**changes))
                assert_json_error(await proxy.ask(proxy.request(line)), 403, "endpoint_not_allowed")
            assert upstream.conversations == []

    run(main())


def test_an_edit_that_is_taken_back_does_not_lead_to_a_reserved_endpoint(tmp_path: Path) -> None:
    class Detour:
        """Edit the path while the request is admitted, and restore the path that was checked at first."""

        def __init__(self, exchanges: Exchanges) -> None:
            self._exchanges = exchanges

        def requestheaders(self, flow: http.HTTPFlow) -> None:
            flow.request.path = "/v1/models"

        def request(self, flow: http.HTTPFlow) -> None:
            flow.request.path = "/v1/keys"

    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                proxy.master.addons.add(Detour(proxy.exchanges))
                assert_json_error(await proxy.ask(proxy.request("GET /v1/keys")), 403, "endpoint_not_allowed")
            assert upstream.conversations == []

    run(main())


def redirect(upstream: RawUpstream, *, path: str, headers: str = "Content-Length: 0") -> None:
    """Have an upstream answer with a location of its own."""
    at = f"{upstream.url}{path}"
    answer = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {at}\r\nContent-Location: {at}?b\r\n{headers}\r\n\r\n"
    upstream.answer = answer_all(answer.encode())


@pytest.mark.parametrize("headers", ["Content-Length: 0", "Content-Type: text/event-stream\r\nContent-Length: 0"])
@pytest.mark.parametrize("prefix", ["", "/openai"])
def test_a_redirect_of_the_upstream_to_itself_stays_at_the_gateway(tmp_path: Path, prefix: str, headers: str) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            redirect(upstream, path=f"{prefix}/v1/files", headers=headers)
            async with running(tmp_path, upstream.url + prefix) as proxy:
                status, answer, _ = head_and_body(await proxy.ask(proxy.request()))
                assert (status, answer["location"], answer["content-location"]) == (307, "/v1/files", "/v1/files?b")
                flow = await proxy.end_of_flow()
                assert flow.response
                assert flow.response.headers["location"] == f"{upstream.url}{prefix}/v1/files"
                async with Http2Client.connect(proxy.port) as client:
                    answered = await client.answer(client.get("/v1/models", proxy.token.value))
                assert answered
                assert (answered["location"], answered["content-location"]) == ("/v1/files", "/v1/files?b")

    run(main())


def test_a_redirect_in_the_place_of_a_websocket_stays_at_the_gateway(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            redirect(upstream, path="/v1/realtime?model=new")
            async with running(tmp_path, upstream.url) as proxy:
                upgrade = "".join(f"{name}: {value}\r\n" for name, value in UPGRADE)
                answer = await proxy.ask_and_stay(proxy.request("GET /v1/realtime?model=old", headers=upgrade))
                assert head_and_body(answer)[1]["location"] == "/v1/realtime?model=new"
            assert b"Sec-WebSocket-Key" in upstream.received()

    run(main())


def test_without_a_grant_there_is_no_connection(tmp_path: Path) -> None:
    class Forget:
        def __init__(self, exchanges: Exchanges) -> None:
            self._exchanges = exchanges

        def request(self, flow: http.HTTPFlow) -> None:
            self._exchanges.finish(flow.id)

    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                proxy.master.addons.add(Forget(proxy.exchanges))
                assert_json_error(await proxy.ask(proxy.request()), 500, "internal_error")
            assert upstream.conversations == []

    run(main())


def test_an_upstream_that_is_back_is_tried_again_on_the_same_connection(tmp_path: Path) -> None:
    async def main() -> None:
        port = free_port()
        async with running(tmp_path, f"http://127.0.0.1:{port}") as proxy, proxy.connection() as (reader, writer):
            for _ in range(2):
                writer.write(proxy.request(headers="").encode())
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 503 ")
                await reader.readuntil(b"}")
            with RawUpstream(answer_all(), port) as upstream:
                writer.write(proxy.request(headers="").encode())
                assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200 ")
                assert len(upstream.conversations) == 1

    run(main())


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key", "x-goog-api-key"])
def test_a_token_over_http2_is_extracted_from_any_of_its_headers(tmp_path: Path, name: str) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                token = proxy.token.value
                value = f"Bearer sk-{token}" if name == "authorization" else f"sk-{token}"
                start = [(":method", "GET"), (":scheme", "https"), (":authority", "proxy")]
                async with Http2Client.connect(proxy.port) as client:
                    path = (":path", f"/v1/models?key={token}&x=1")
                    stream = client.request([*start, path, (name, value), ("xi-api-key", token)])
                    assert await client.status(stream) == 200
                assert token not in repr((await proxy.end_of_flow()).get_state())
            received = upstream.received()
            assert received.startswith(b"GET /v1/models?x=1 HTTP/1.1\r\n")
            assert received.count(f"authorization: Bearer {API_KEY}\r\n".encode()) == 1
            assert token.encode() not in received
            assert b"api-key" not in received

    run(main())


def test_streams_of_one_connection_are_admitted_each(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                Tokens(proxy.store).update(proxy.token.id, {"max_requests": 3})
                async with Http2Client.connect(proxy.port) as client:
                    streams = [client.get("/v1/models", proxy.token.value) for _ in range(5)]
                    statuses = [await client.status(stream) for stream in streams]
                assert sorted(statuses) == [200, 200, 200, 429, 429]
            assert upstream.received().count(f"Bearer {API_KEY}\r\n".encode()) == 3
            assert proxy.token.value.encode() not in upstream.received()

    run(main())
