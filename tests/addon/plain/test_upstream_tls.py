import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any

import pytest
from mitmproxy.tls import TlsData
from OpenSSL import SSL
from support.gateway.inprocess import (
    Hooks,
    assert_json_error,
    head_and_body,
    run,
    running,
    until,
)
from support.gateway.processes import DEADLINE
from support.network.certificates import Authority
from support.upstreams.upstreams import OK, Conversation, RawUpstream, answer_all

pytestmark = pytest.mark.paths("on", "off")

NAME = "localhost"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def url(upstream: RawUpstream) -> str:
    return f"https://{NAME}:{upstream.port}"


def test_a_trusted_upstream_is_asked_over_one_connection(tmp_path: Path, authority: Authority) -> None:
    async def main() -> None:
        hooks = Hooks()
        body = bytes(range(256)) * 4096
        response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        with RawUpstream(answer_all(response), tls=authority.server(NAME)) as upstream:
            async with running(tmp_path, url(upstream), addons=[hooks], upstream_ca_file=authority.file) as proxy:
                async with proxy.connection() as (reader, writer):
                    for _ in range(3):
                        writer.write(proxy.request(headers="").encode())
                        await reader.readuntil(b"\r\n\r\n")
                        assert await reader.readexactly(len(body)) == body
                flow = await proxy.end_of_flow()
                assert flow.server_conn.tls_established
                assert (flow.server_conn.sni, flow.server_conn.tls_version) == (NAME, "TLSv1.3")
                assert flow.server_conn.certificate_list
            assert len(upstream.conversations) == 1
            assert hooks.of(Hooks.OF_TLS) == ["tls_start_server", "tls_established_server"]
            assert hooks.called.index("server_connected") < hooks.called.index("tls_start_server")

    run(main())


@pytest.mark.parametrize("host", ["other.test", NAME])
@pytest.mark.parametrize("ended", [False, True])
def test_a_certificate_must_be_good(tmp_path: Path, authority: Authority, host: str, ended: bool) -> None:
    is_good = host == NAME and not ended

    async def main() -> None:
        hooks = Hooks()
        with RawUpstream(answer_all(), tls=authority.server(host, ended=ended)) as upstream:
            async with running(tmp_path, url(upstream), addons=[hooks], upstream_ca_file=authority.file) as proxy:
                answer = await proxy.ask(proxy.request())
                if is_good:
                    assert head_and_body(answer)[0] == 200
                else:
                    assert_json_error(answer, 503, "service_unavailable")
                    error = (await proxy.end_of_flow()).error
                    assert error is not None
                    assert "verify failed" in error.msg
            assert (upstream.received() == b"") is not is_good
            assert ("tls_failed_server" in hooks.called) is not is_good

    run(main())


@pytest.mark.parametrize(
    ("options", "status"),
    [({}, 503), ({"ssl_insecure": True}, 200), ({"ssl_verify_upstream_trusted_ca": "authority.pem"}, 200)],
    ids=["none", "insecure", "trusted CA"],
)
def test_the_options_of_mitmproxy_hold(
    tmp_path: Path, authority: Authority, options: dict[str, Any], status: int
) -> None:
    assert authority.file.name == "authority.pem"

    async def main() -> None:
        with RawUpstream(answer_all(), tls=authority.server(NAME)) as upstream:
            async with running(tmp_path, url(upstream), options) as proxy:
                assert head_and_body(await proxy.ask(proxy.request()))[0] == status

    run(main())


@pytest.mark.paths("on")  # the layers wait in vain where the upstream objects before the request is sent
def test_a_clients_certificate_is_sent(tmp_path: Path, authority: Authority) -> None:
    authority.server("client")  # its file holds a key and a certificate
    context = authority.server(NAME)
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED

    async def main() -> None:
        with RawUpstream(answer_all(), tls=context) as upstream:
            for options, status in (({"client_certs": str(tmp_path / "client-False.pem")}, 200), ({}, 503)):
                async with running(tmp_path, url(upstream), options, upstream_ca_file=authority.file) as proxy:
                    assert head_and_body(await proxy.ask(proxy.request()))[0] == status

    run(main())


def test_an_addon_may_change_the_handshake(tmp_path: Path, authority: Authority) -> None:
    class Trusting:
        def tls_start_server(self, data: TlsData) -> None:
            assert data.ssl_conn is not None
            data.ssl_conn.set_verify(SSL.VERIFY_NONE)
            seen.append(data.conn.sni)

    seen: list[str | None] = []

    async def main() -> None:
        with RawUpstream(answer_all(), tls=authority.server(NAME)) as upstream:
            for addons, status in (([], 503), ([Trusting()], 200)):
                async with running(tmp_path, url(upstream), addons=addons) as proxy:
                    assert head_and_body(await proxy.ask(proxy.request()))[0] == status
        assert seen == [NAME]

    run(main())


def test_only_http_1_is_offered(tmp_path: Path, authority: Authority) -> None:
    context = authority.server(NAME)
    context.set_alpn_protocols(["h2", "http/1.1"])
    chosen: list[str | None] = []

    def answer(conversation: Conversation) -> None:
        sock = conversation.sock
        chosen.append(sock.selected_alpn_protocol() if isinstance(sock, ssl.SSLSocket) else None)
        answer_all()(conversation)

    async def main() -> None:
        with RawUpstream(answer, tls=context) as upstream:
            async with running(tmp_path, url(upstream), upstream_ca_file=authority.file) as proxy:
                assert head_and_body(await proxy.ask(proxy.request()))[0] == 200
        assert set(chosen) <= {"http/1.1", None}

    run(main())


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n", b"HTTP/1.1 400 Bad\r\n\r\n"], ids=["end", "text", "HTTP"])
def test_an_upstream_without_tls_is_a_503(tmp_path: Path, answer: bytes) -> None:
    def respond(conversation: Conversation) -> None:
        conversation.read_more()
        conversation.send(answer)

    async def main() -> None:
        with RawUpstream(respond) as upstream:
            async with running(tmp_path, url(upstream)) as proxy:
                assert_json_error(await proxy.ask(proxy.request()), 503, "service_unavailable")
            assert b"GET " not in upstream.received()

    run(main())


@pytest.mark.paths("on")
def test_a_close_over_tls_is_seen_before_anything_is_written(tmp_path: Path, authority: Authority) -> None:
    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(OK)
        with contextlib.suppress(OSError):
            if isinstance(conversation.sock, ssl.SSLSocket):
                conversation.sock.unwrap()

    async def main() -> None:
        with RawUpstream(answer, tls=authority.server(NAME)) as upstream:
            async with running(tmp_path, url(upstream), upstream_ca_file=authority.file) as proxy:
                for number in range(1, 5):
                    assert head_and_body(await proxy.ask_and_stay(proxy.request(headers="")))[0] == 200
                    await asyncio.to_thread(upstream.conversations[-1].closed.wait, DEADLINE)
                    assert len(upstream.conversations) == number

    run(main())


@pytest.mark.paths("on")
def test_a_body_that_is_cut_below_tls_is_a_503(tmp_path: Path, authority: Authority) -> None:
    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        conversation.sock.shutdown(2)

    async def main() -> None:
        with RawUpstream(answer, tls=authority.server(NAME)) as upstream:
            async with running(tmp_path, url(upstream), upstream_ca_file=authority.file) as proxy:
                assert_json_error(await proxy.ask(proxy.request()), 503, "service_unavailable")
                await until(upstream.conversations[0].closed.is_set)

    run(main())
