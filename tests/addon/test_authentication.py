import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.test import tflow
from support.requests import UPGRADE, make_request

from addon import authentication
from addon.authentication import Credentials
from store.errors import InvalidRequest, InvalidToken

TOKEN = "6fd5ce84-0efa-4d8d-9dbd-8de4ab5e8b1b"
PROTOCOL = f"openai-insecure-api-key.{TOKEN}"


def take(*headers: tuple[str | bytes, str | bytes]) -> tuple[Credentials, http.Request]:
    request = make_request(*headers)
    return authentication.take(request), request


def assert_masked(request: http.Request) -> None:
    flow = tflow.tflow()
    flow.request = request
    assert TOKEN not in repr(flow.get_state())
    assert TOKEN.encode() not in bytes(request.headers)


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER   {TOKEN}"])
def test_a_bearer_token_is_read_and_masked(value: str) -> None:
    credentials, request = take(("Authorization", value))
    assert credentials.token() == TOKEN
    assert request.headers["authorization"] == f"{value.partition(' ')[0]} ***"
    assert_masked(request)


@pytest.mark.parametrize(
    "value",
    [
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer\t{TOKEN}",
        f"Bearer,{TOKEN}",
        f"Bearer={TOKEN}",
        f" Bearer {TOKEN}",
        f"{TOKEN} Bearer",
        f"Token token={TOKEN}",
        f"bearer{TOKEN}",
        b"\xff " + TOKEN.encode(),
    ],
)
def test_another_form_is_no_token_and_masked_all_the_same(value: str | bytes) -> None:
    credentials, request = take(("Authorization", value))
    with pytest.raises(InvalidToken):
        credentials.token()
    assert_masked(request)


@pytest.mark.parametrize("value", [f"Bearer {TOKEN} {TOKEN}", f"Bearer {TOKEN},{TOKEN}", "Bearer", "Bearer "])
def test_a_malformed_bearer_token_is_never_the_token(value: str) -> None:
    credentials, request = take(("Authorization", value))
    assert credentials.token() != TOKEN
    assert_masked(request)


def test_no_credentials_are_no_token() -> None:
    credentials, request = take()
    with pytest.raises(InvalidToken):
        credentials.token()
    assert "authorization" not in request.headers


def test_repeated_headers_are_refused_and_all_masked() -> None:
    credentials, request = take(("Authorization", f"Bearer {TOKEN}"), ("AUTHORIZATION", f"Basic {TOKEN}"))
    with pytest.raises(InvalidRequest):
        credentials.token()
    assert len(request.headers.get_all("authorization")) == 2
    assert_masked(request)


def test_a_browsers_websocket_sends_it_as_a_subprotocol() -> None:
    credentials, request = take(*UPGRADE, ("Sec-WebSocket-Protocol", f"realtime, {PROTOCOL}, beta"))
    assert credentials.token() == TOKEN
    assert request.headers["sec-websocket-protocol"] == "realtime, openai-insecure-api-key.***, beta"
    assert_masked(request)


def test_a_subprotocol_counts_in_a_websocket_upgrade_only() -> None:
    credentials, request = take(("Sec-WebSocket-Protocol", PROTOCOL))
    with pytest.raises(InvalidToken):
        credentials.token()
    assert_masked(request)


@pytest.mark.parametrize(
    "values",
    [
        [PROTOCOL.upper()],
        [PROTOCOL, PROTOCOL],
        ["realtime", PROTOCOL],
        [f"a,{PROTOCOL},b,{PROTOCOL}"],
        [f"\t{PROTOCOL}\t,"],
        [b"\xff, " + PROTOCOL.encode()],
    ],
)
def test_every_spelling_and_repetition_of_the_subprotocol_is_masked(values: list[str | bytes]) -> None:
    _, request = take(*UPGRADE, *(("Sec-WebSocket-Protocol", value) for value in values))
    flow = tflow.tflow()
    flow.request = request
    assert TOKEN not in repr(flow.get_state()).lower()


def test_the_header_goes_before_the_subprotocol_and_both_are_masked() -> None:
    other = "00000000-0000-4000-8000-000000000000"
    credentials, request = take(
        *UPGRADE, ("Authorization", f"Bearer {TOKEN}"), ("Sec-WebSocket-Protocol", PROTOCOL.replace(TOKEN, other))
    )
    assert credentials.token() == TOKEN
    assert other not in str(request.headers)
    assert_masked(request)


def test_credentials_are_not_in_their_repr() -> None:
    credentials, _ = take(*UPGRADE, ("Authorization", f"Bearer {TOKEN}"), ("Sec-WebSocket-Protocol", PROTOCOL))
    assert TOKEN not in repr(credentials)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"authorization", b"Authorization", b"sec-websocket-protocol", b"connection", b"x"]),
            st.lists(
                st.one_of(
                    st.sampled_from([b"Bearer ", b",", b" ", b"Basic", TOKEN.encode(), PROTOCOL.encode()]),
                    st.binary(max_size=3),
                ),
                max_size=5,
            ).map(b"".join),
        ),
        max_size=5,
    )
)
def test_taking_never_raises_and_leaves_no_authorization(headers: list[tuple[bytes, bytes]]) -> None:
    credentials, request = take(*headers)
    for name, value in request.headers.fields:
        if name.lower() == b"authorization":
            assert TOKEN.encode() not in value
    with contextlib.suppress(InvalidToken, InvalidRequest):
        credentials.token()
