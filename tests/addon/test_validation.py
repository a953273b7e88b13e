from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.gateway.requests import make_request

from addon import validation
from store.errors import (
    ExpectationFailed,
    GatewayError,
    HeadersTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    RequestTooLarge,
)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models",
        "/v1/",
        "/v1/chat/completions?x=1",
        "/v1/files/",
        "/v1/files%2F",
        "/v1/models/org%2Fname",
        "/v1/x?a=/../b",
        "/v1/x?q=%00%2e%2e%5c",
        "/v1/...",
        "/v1/a.b/.c",
        "/v1/caf%C3%A9",
        "/v1/%252e%252e/x",
        "/health",
        "/health?verbose",
        "/ready",
        "/token",
    ],
)
def test_the_api_and_health_are_accepted(path: str | bytes) -> None:
    validation.check(make_request(path=path))


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v2/x", "/V1/models", "/%76%31/models", "/health/", "/healthz", "/ready/", "/token/", "/?x"]
)
def test_other_paths_are_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        validation.check(make_request(path=path))


@pytest.mark.parametrize(
    "path",
    [
        "*",
        "",
        "v1/models",
        "http://host/v1/models",
        "//",
        "//v1/models",
        "/v1//models",
        "/v1/models//",
        "/v1/../health",
        "/v1/./models",
        "/v1/models/..",
        "/v1/%2e%2e/admin",
        "/v1/%2E./admin",
        "/v1/a%2f..%2fb",
        "/v1/%2f",
        "/v1/..;/x",
        "/v1/%2e%2e%3Bx=1/x",
        "/v1/a%5cb",
        "/v1/a\\b",
        "/v1/x#y",
        "/v1/a b",
        "/v1/a\tb",
        "/v1/a\x7fb",
        "/v1/x?a b",
        "/v1/x?a#b",
        b"/v1/\x00",
        b"/v1/x\r\nHost: other",
    ],
)
def test_rejects_malformed_targets(path: str | bytes) -> None:
    with pytest.raises(InvalidRequest):
        validation.check(make_request(path=path))


@pytest.mark.parametrize("value", [b"a\r\nX: b", b"a\r\n b", b"a\nb", b"a\rb", b"a\0b", b"\x1b[31m", b"\x7f"])
def test_rejects_control_characters_in_headers(value: bytes) -> None:
    with pytest.raises(InvalidRequest):
        validation.check(make_request(("X-Header", value)))


@pytest.mark.parametrize("value", [b"a\tb", b"caf\xc3\xa9", b"\xff", b""])
def test_other_bytes_in_headers_are_accepted(value: bytes) -> None:
    validation.check(make_request(("X-Header", value)))


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity", "chunked, chunked", "xchunked", "", "deflate,chunked"])
def test_rejects_other_transfer_codings(coding: str) -> None:
    with pytest.raises(InvalidRequest):
        validation.check(make_request(("Transfer-Encoding", coding)))


def test_chunked_is_accepted_in_any_case() -> None:
    validation.check(make_request(("transfer-encoding", "CHUNKED")))


def test_rejects_headers_that_are_too_large() -> None:
    headers = [("X", "x" * 1023)] * 64
    validation.check(make_request(*headers))
    with pytest.raises(HeadersTooLarge):
        validation.check(make_request(*headers, ("X", "")))


@pytest.mark.parametrize(("length", "fits"), [("1000", True), ("1001", False), ("9" * 400, False), ("nonsense", True)])
def test_rejects_a_content_length_that_is_too_large(length: str, fits: bool) -> None:
    request = make_request(("Content-Length", length))
    if fits:
        validation.check_length(request, 1000)
    else:
        with pytest.raises(RequestTooLarge):
            validation.check_length(request, 1000)


def test_rejects_a_whole_url_as_target() -> None:
    with pytest.raises(InvalidRequest):
        validation.check(make_request(authority="api.openai.com"))


def test_an_authority_is_accepted_over_http2() -> None:
    validation.check(make_request(authority="proxy", http_version="HTTP/2.0"))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"])
def test_the_methods_of_the_api_are_accepted(method: str) -> None:
    validation.check(make_request(method=method))


@pytest.mark.parametrize(
    "method", ["OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "Post", "PO\u017fT", "", "GET ", b"GET\x00", b"\xff"]
)
def test_rejects_other_methods(method: str | bytes) -> None:
    with pytest.raises(MethodNotAllowed) as caught:
        validation.check(make_request(method=method))
    assert caught.value.headers == {"Allow": "GET, POST, PUT, PATCH, DELETE, HEAD"}


def test_health_accepts_get_and_head_only() -> None:
    validation.check(make_request(method="HEAD", path="/health"))
    with pytest.raises(MethodNotAllowed) as caught:
        validation.check(make_request(method="POST", path="/health"))
    assert caught.value.headers == {"Allow": "GET, HEAD"}


@pytest.mark.parametrize("path", ["/health", "/ready", "/token"])
def test_a_request_for_the_proxy_itself_is_known_by_its_path_alone(path: str) -> None:
    assert validation.is_own(make_request(path=f"{path}?x"))
    assert not validation.is_own(make_request(path=f"/v1{path}"))


PIECES = st.sampled_from(
    [
        b"/",
        b"v1",
        b"health",
        b".",
        b"..",
        b"%2e",
        b"%2E",
        b"%2f",
        b"%5c",
        b"\\",
        b"?",
        b"#",
        b"%",
        b"%25",
        b"a",
        b" ",
        b"\x00",
    ]
)
TARGETS = st.one_of(
    st.binary(max_size=40),
    st.lists(PIECES, max_size=12).map(b"".join),
    st.lists(PIECES, max_size=12).map(lambda pieces: b"/v1/" + b"".join(pieces)),
)


@given(TARGETS)
@example(b"/v1/%2e%2e/")
def test_rejects_everything_outside_the_api_and_decoded_dots(target: bytes) -> None:
    try:
        validation.check(make_request(path=target))
    except GatewayError:
        return
    path = target.partition(b"?")[0]
    assert path in {b"/health", b"/ready", b"/token"} or path.startswith(b"/v1/")
    decoded = unquote_to_bytes(path)
    assert b"\\" not in decoded
    segments = decoded.split(b"/")
    assert not {b".", b".."} & set(segments)
    assert b"" not in segments[1:-1]
    assert not any(byte <= 0x20 or byte in {0x23, 0x7F} for byte in target)


@pytest.mark.parametrize("value", ["100-continue", "100-Continue", "100-CONTINUE"])
def test_the_expectation_100_continue_is_accepted(value: str) -> None:
    validation.check(make_request(("Expect", value)))


@pytest.mark.parametrize(
    "value", ["", "100", "y 100-continue", "100-continue, y", "100-continue;q=1", '"100-continue"']
)
def test_rejects_other_expectations(value: str) -> None:
    with pytest.raises(ExpectationFailed):
        validation.check(make_request(("Expect", value)))


def test_rejects_two_expectations() -> None:
    with pytest.raises(ExpectationFailed):
        validation.check(make_request(("Expect", "100-continue"), ("Expect", "100-continue")))


@pytest.mark.parametrize("path", [b"/v1/\xc3\xa9", b"/v1/a\xa0b", b"/v1/a\x85", b"/v1/a?\xff"])
def test_rejects_targets_that_are_not_ascii(path: bytes) -> None:
    with pytest.raises(InvalidRequest):
        validation.check(make_request(path=path))
