import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gateway.requests import UPGRADE, make_request, make_response

from addon import authentication, forwarding, websocket_handshake
from addon.exchange import Destination, Grant
from store.runtime.settings import Upstream

KEY = "sk-upstream-key"
GRANT = Grant(Destination("upstream", 443, tls=True), KEY)
TOKEN = "6fd5ce84-0efa-4d8d-9dbd-8de4ab5e8b1b"

type Field = tuple[bytes, bytes]


def sent(*headers: tuple[str | bytes, str | bytes], grant: Grant = GRANT) -> list[Field]:
    return list(forwarding.keyed_request(make_request(*headers), grant).headers.fields)


def test_the_copy_has_the_key_and_the_request_does_not() -> None:
    request = make_request(("Authorization", "Bearer ***"), path="/v1/x?q=1")
    keyed = forwarding.keyed_request(request, GRANT)
    assert keyed.headers.get_all("authorization") == [f"Bearer {KEY}"]
    assert request.headers.get_all("authorization") == ["Bearer ***"]
    assert KEY not in repr(request.get_state())
    assert (keyed.path, keyed.method, keyed.host, keyed.http_version) == ("/v1/x?q=1", "GET", request.host, "HTTP/1.1")


def test_the_body_is_shared() -> None:
    request = make_request()
    request.raw_content = b"x" * 100
    assert forwarding.keyed_request(request, GRANT).raw_content is request.raw_content


def test_the_prefix_goes_before_the_path() -> None:
    request = make_request(path="/v1/x")
    keyed = forwarding.keyed_request(request, Grant(GRANT.destination, KEY, "/openai"))
    assert (keyed.path, request.path) == ("/openai/v1/x", "/v1/x")


MASKED = authentication.MASKED_VALUE.decode()


@pytest.mark.parametrize(
    ("path", "upstream"),
    [
        (f"/v1/x?key={MASKED}", "/v1/x"),
        (f"/v1/x?{MASKED}", "/v1/x"),
        (f"/v1/x?key={MASKED}&a=1", "/v1/x?a=1"),
        (f"/v1/x?a=%20&key={MASKED}&&b", "/v1/x?a=%20&&b"),
        (f"/v1/x?a=1&key={MASKED}&token={MASKED}", "/v1/x?a=1"),
        (f"/v1/x?key={MASKED}&", "/v1/x?"),
    ],
)
def test_a_masked_token_in_a_query_is_removed_with_its_name(path: str, upstream: str) -> None:
    request = make_request(path=path)
    assert forwarding.keyed_request(request, GRANT).path == upstream
    assert request.path == path


@pytest.mark.parametrize(
    "path",
    ["/v1/x?", "/v1/x?key=***&a", f"/v1/{MASKED}", f"/v1/{MASKED}?", f"/v1/x?a=b={MASKED}", f"/v1/x?a={MASKED}b"],
)
def test_any_other_target_passes_unchanged(path: str) -> None:
    assert forwarding.keyed_request(make_request(path=path), GRANT).path == path


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)))
def test_a_query_without_a_masked_token_passes_byte_for_byte(query: str) -> None:
    assert forwarding.keyed_request(make_request(path=f"/v1/x?{query}"), GRANT).path == f"/v1/x?{query}"


@given(st.lists(st.tuples(st.sampled_from(sorted(authentication._EXTRACTORS)), st.just(TOKEN.encode())), max_size=4))  # noqa: SLF001
def test_no_header_that_is_masked_goes_upstream(headers: list[Field]) -> None:
    request = make_request(*headers)
    authentication.extract(request)
    out = forwarding.keyed_request(request, GRANT).headers.fields
    assert {name for name, _ in out} <= {b"authorization", b"sec-websocket-protocol"}
    assert b"***" not in b"".join(value for _, value in out)
    assert [value for name, value in out if name == b"authorization"] == [f"Bearer {KEY}".encode()]


@pytest.mark.parametrize(
    "name",
    [
        "X-API-Key",
        "api-key",
        "X-Goog-Api-Key",
        "xi-api-key",
        "Cookie",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-FORWARDED-ANYTHING",
        "X-Real-IP",
        "X-Original-URL",
        "X-Rewrite-URL",
        "True-Client-IP",
        "CF-Connecting-IP",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Upgrade",
        "Connection",
    ],
)
def test_headers_that_must_not_pass_are_removed(name: str) -> None:
    assert sent(("X-Before", "1"), (name, "value"), ("X-After", "2")) == [
        (b"X-Before", b"1"),
        (b"X-After", b"2"),
        (b"authorization", f"Bearer {KEY}".encode()),
    ]


def test_headers_named_by_connection_are_removed() -> None:
    headers = sent(("Connection", "X-Hop, close,,  x-other"), ("x-hop", "1"), ("X-Other", "2"), ("X-End", "3"))
    assert headers == [(b"X-End", b"3"), (b"authorization", f"Bearer {KEY}".encode())]


def test_headers_that_frame_and_route_are_kept_though_connection_names_them() -> None:
    named = ("Host", "Content-Length", "Transfer-Encoding", "Authorization")
    headers = dict(sent(("Connection", ", ".join(named)), *((name, "1") for name in named)))
    assert headers == {
        b"Host": b"1",
        b"Content-Length": b"1",
        b"Transfer-Encoding": b"1",
        b"authorization": f"Bearer {KEY}".encode(),
    }


def test_a_request_whose_response_is_read_asks_for_all_of_it_without_a_coding() -> None:
    asked = [("Accept-Encoding", "gzip"), ("accept-encoding", "br"), ("Range", "bytes=0-9"), ("If-Range", "x")]
    request = make_request(*asked, ("If-None-Match", "x"), ("If-Modified-Since", "x"), ("Accept", "a/b"))
    authorization = (b"authorization", f"Bearer {KEY}".encode())
    keyed = forwarding.keyed_request(request, GRANT, for_reading=True)
    assert keyed.headers.fields == ((b"Accept", b"a/b"), authorization, (b"accept-encoding", b"identity"))
    assert forwarding.keyed_request(request, GRANT).headers.fields == (*request.headers.fields, authorization)


def test_a_connection_header_in_no_encoding_is_removed_too() -> None:
    assert sent(("Connection", b"\xff, X-Hop"), ("X-Hop", "1"))[:-1] == []
    passed = forwarding.client_response(
        make_response(("Connection", b"\xff, X-Hop"), ("X-Hop", "1"), ("X", "2")), None, closes=False
    )
    assert passed.headers.fields == ((b"X", b"2"),)


def test_a_websocket_upgrade_passes_without_the_token() -> None:
    protocols = ("Sec-WebSocket-Protocol", f"realtime, openai-insecure-api-key.{TOKEN}, beta")
    headers = sent(*UPGRADE, protocols)
    assert [(name.decode(), value.decode()) for name, value in headers] == [
        *UPGRADE,
        ("Sec-WebSocket-Protocol", "realtime, beta"),
        ("authorization", f"Bearer {KEY}"),
    ]


@pytest.mark.parametrize("spelling", ["openai-insecure-api-key.", "OpenAI-Insecure-API-Key."])
def test_a_token_alone_as_subprotocol_leaves_no_header(spelling: str) -> None:
    names = [name for name, _ in sent(*UPGRADE, ("Sec-WebSocket-Protocol", f" {spelling}{TOKEN} "))]
    assert b"Sec-WebSocket-Protocol" not in names


@pytest.mark.parametrize("missing", range(len(UPGRADE)))
def test_rejects_an_upgrade_that_lacks_a_header(missing: int) -> None:
    headers = [header for number, header in enumerate(UPGRADE) if number != missing]
    assert not websocket_handshake.is_upgrade(make_request(*headers))
    assert not {b"Connection", b"Upgrade"} & {name for name, _ in sent(*headers)}


def test_rejects_an_upgrade_by_another_method_or_to_another_protocol() -> None:
    assert not websocket_handshake.is_upgrade(make_request(*UPGRADE, method="POST"))
    assert sent(("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "x"))[:-1] == []


def test_a_response_without_hop_by_hop_headers_is_passed_uncopied() -> None:
    response = make_response(("Content-Type", "text/plain"), ("Set-Cookie", "a=b"))
    assert forwarding.client_response(response, None, closes=False) is response


def test_hop_by_hop_headers_of_the_upstream_do_not_reach_the_client() -> None:
    response = make_response(("Connection", "close, X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "5"), ("X-End", "2"))
    passed = forwarding.client_response(response, None, closes=False)
    assert passed.headers.fields == ((b"X-End", b"2"),)
    assert len(response.headers.fields) == 4


def test_other_addresses_of_the_upstream_do_not_reach_the_client() -> None:
    response = make_response(("Alt-Svc", 'h3=":443"; ma=86400'), ("X-Other", "1"))
    passed = forwarding.client_response(response, None, closes=False)
    assert "alt-svc" not in passed.headers
    assert passed.headers["x-other"] == "1"
    assert "alt-svc" in response.headers


@pytest.mark.parametrize("name", ["Location", "location", "Content-Location"])
def test_a_location_at_the_upstream_is_rewritten_to_the_gateway(name: str) -> None:
    upstream = Upstream.parse("https://api.example/openai/v1")
    response = make_response(("X-Before", "1"), (name, "https://api.example/openai/v1/files"), ("X-After", "2"))
    passed = forwarding.client_response(response, upstream, closes=False)
    assert passed.headers.fields == ((b"X-Before", b"1"), (name.encode(), b"/v1/files"), (b"X-After", b"2"))
    assert response.headers[name] == "https://api.example/openai/v1/files"


def test_each_of_several_locations_is_rewritten() -> None:
    response = make_response(("Location", "http://api.example:80/v1/a"), ("Location", "http://api.example/v1/b"))
    passed = forwarding.client_response(response, Upstream.parse("http://api.example"), closes=False)
    assert passed.headers.get_all("location") == ["/v1/a", "/v1/b"]


def test_a_response_with_a_location_elsewhere_is_passed_uncopied() -> None:
    response = make_response(("Location", "https://cdn.example/v1/files"))
    assert forwarding.client_response(response, Upstream.parse("https://api.example"), closes=False) is response


def test_the_response_to_an_upgrade_keeps_its_upgrade_headers() -> None:
    response = make_response(("Connection", "Upgrade"), ("Upgrade", "websocket"), status=101)
    assert forwarding.client_response(response, None, closes=False).headers.fields == response.headers.fields


NAMES = st.one_of(
    st.sampled_from([b"Connection", b"Cookie", b"authorization", b"X-Hop", b"Sec-WebSocket-Protocol", b"Host", b"TE"]),
    st.from_regex(rb"\A[A-Za-z-]{1,12}\Z"),
)
VALUES = st.one_of(
    st.sampled_from([b"close, X-Hop", b"keep-alive", b"X-Hop", b"a, openai-insecure-api-key." + TOKEN.encode()]),
    st.binary(max_size=8),
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=8)


@given(FIELDS)
def test_a_forwarded_request_lacks_only_what_must_not_pass(headers: list[Field]) -> None:
    out = sent(*headers)
    assert [field for field in out if field[0].lower() == b"authorization"] == [out[-1]]
    assert out[-1][1] == f"Bearer {KEY}".encode()
    assert not {b"connection", b"cookie", b"te"} & {name.lower() for name, _ in out}
    assert TOKEN.encode() not in b"".join(value for name, value in out if name.lower() == b"sec-websocket-protocol")
    end_to_end = [field for field in out[:-1] if field[0].lower() != b"sec-websocket-protocol"]
    remaining = iter(headers)
    assert all(field in remaining for field in end_to_end)  # in order, byte for byte, nothing added


@given(FIELDS)
def test_a_forwarded_response_lacks_only_what_must_not_pass(headers: list[Field]) -> None:
    out = list(forwarding.client_response(make_response(*headers), None, closes=False).headers.fields)
    remaining = iter(headers)
    assert all(field in remaining for field in out)
    assert not {b"connection", b"te"} & {name.lower() for name, _ in out}


@given(FIELDS)
def test_a_request_without_a_connection_header_keeps_all_other_headers(headers: list[Field]) -> None:
    kept = [
        field for field in headers if field[0].lower() in {b"host", b"x-hop"} or field[0].lower().startswith(b"x-a")
    ]
    if not any(name.lower() == b"connection" for name, _ in headers):
        out = sent(*headers)
        assert [field for field in out if field in kept] == kept


@pytest.mark.parametrize(
    ("status", "version", "upgrade", "is_one"),
    [
        (200, "HTTP/1.1", False, True),
        (200, "HTTP/1.0", False, True),
        (200, "HTTP/2.0", False, True),
        (200, "HTTP/9.9", False, False),
        (599, "HTTP/1.1", False, True),
        (999, "HTTP/1.1", False, True),
        (1000, "HTTP/1.1", False, False),
        (99, "HTTP/1.1", False, False),
        (102, "HTTP/1.1", False, False),
        (101, "HTTP/1.1", False, False),
        (101, "HTTP/1.1", True, True),
    ],
)
def test_a_final_response_is_recognized(status: int, version: str, upgrade: bool, is_one: bool) -> None:
    response = make_response(status=status)
    response.http_version = version
    assert forwarding.is_final_response(response, make_request(*(UPGRADE if upgrade else []))) == is_one


@pytest.mark.parametrize(("status", "kept"), [(304, False), (200, True)])
def test_a_response_without_a_body_has_no_transfer_encoding(status: int, kept: bool) -> None:
    response = make_response(("Transfer-Encoding", "chunked"), ("ETag", "x"), status=status)
    passed = forwarding.client_response(response, None, closes=False)
    assert ("transfer-encoding" in passed.headers) == kept
    assert passed.headers["etag"] == "x"
    assert "transfer-encoding" in response.headers
