import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.test import tflow
from support.gateway.requests import UPGRADE, make_request

from addon import authentication
from addon.authentication import MASK, Credentials
from store.errors import InvalidRequest, InvalidToken

TOKEN = "6fd5ce84-0efa-4d8d-9dbd-8de4ab5e8b1b"
OTHER = "00000000-0000-4000-8000-000000000000"
PROTOCOL = f"openai-insecure-api-key.{TOKEN}"
KEY_HEADERS = ["x-api-key", "api-key", "x-goog-api-key"]


def take(*headers: tuple[str | bytes, str | bytes], path: str = "/v1/models") -> tuple[Credentials, http.Request]:
    request = make_request(*headers, path=path)
    return authentication.extract(request), request


def assert_masked(request: http.Request) -> None:
    flow = tflow.tflow()
    flow.request = request
    assert TOKEN not in repr(flow.get_state())
    assert TOKEN.encode() not in bytes(request.headers)


@pytest.mark.parametrize(
    "value", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER   {TOKEN}", f"Bearer sk-{TOKEN}", f"Bearer  sk-{TOKEN}"]
)
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
def test_other_authorizations_are_no_token_and_are_masked(value: str | bytes) -> None:
    credentials, request = take(("Authorization", value))
    with pytest.raises(InvalidToken):
        credentials.token()
    assert_masked(request)


@pytest.mark.parametrize(
    "value",
    [
        *(f"Bearer {TOKEN} {TOKEN}", f"Bearer {TOKEN},{TOKEN}", "Bearer", "Bearer "),
        *(f"Bearer sk-sk-{TOKEN}", f"Bearer SK-{TOKEN}", f"Bearer sk-proj-{TOKEN}", "Bearer sk-"),
    ],
)
def test_rejects_malformed_bearer_tokens(value: str) -> None:
    credentials, request = take(("Authorization", value))
    assert credentials.token() != TOKEN
    assert_masked(request)


def test_a_request_without_credentials_is_rejected() -> None:
    credentials, request = take()
    with pytest.raises(InvalidToken):
        credentials.token()
    assert "authorization" not in request.headers


def test_repeated_authorizations_are_rejected_and_all_masked() -> None:
    credentials, request = take(("Authorization", f"Bearer {TOKEN}"), ("AUTHORIZATION", f"Basic {TOKEN}"))
    with pytest.raises(InvalidRequest):
        credentials.token()
    assert len(request.headers.get_all("authorization")) == 2
    assert_masked(request)


def test_a_browsers_websocket_sends_the_token_as_a_subprotocol() -> None:
    credentials, request = take(*UPGRADE, ("Sec-WebSocket-Protocol", f"realtime, {PROTOCOL}, beta"))
    assert credentials.token() == TOKEN
    assert request.headers["sec-websocket-protocol"] == "realtime, openai-insecure-api-key.***, beta"
    assert_masked(request)


def test_a_subprotocol_is_a_token_in_a_websocket_upgrade_only() -> None:
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


@pytest.mark.parametrize("name", [*KEY_HEADERS, "X-API-Key", "Api-Key", "X-Goog-Api-Key"])
@pytest.mark.parametrize("value", [TOKEN, f"sk-{TOKEN}", f" {TOKEN}\t"])
def test_a_header_of_another_providers_clients_carries_the_token(name: str, value: str) -> None:
    credentials, request = take(("Accept", "*/*"), (name, value))
    assert credentials.token() == TOKEN
    assert request.headers.fields == ((b"Accept", b"*/*"), (name.encode(), MASK.encode()))


def test_the_header_xi_api_key_is_masked_and_carries_no_token() -> None:
    credentials, request = take(("xi-api-key", TOKEN))
    with pytest.raises(InvalidToken):
        credentials.token()
    assert_masked(request)


@pytest.mark.parametrize(
    "name", [*KEY_HEADERS, "xi-api-key", "proxy-authorization", "cookie", " x-api-key", "api-key "]
)
@pytest.mark.parametrize("value", [TOKEN, f"Bearer {TOKEN}", f"a, {TOKEN}", "sk-ant-key", "", b"\xff" + TOKEN.encode()])
def test_an_authorization_takes_precedence_over_other_headers(name: str, value: str | bytes) -> None:
    credentials, request = take((name, value), ("Authorization", f"Bearer {TOKEN}"))
    assert credentials.token() == TOKEN
    assert_masked(request)
    assert b"sk-ant-key" not in bytes(request.headers)


@pytest.mark.parametrize("authorization", ["", f"Basic {TOKEN}", "Bearer", "Bearer x", f"Bearer\t{TOKEN}"])
@pytest.mark.parametrize("name", KEY_HEADERS)
def test_an_authorization_without_a_token_is_not_replaced_by_another_header(name: str, authorization: str) -> None:
    credentials, request = take(("Authorization", authorization), (name, TOKEN))
    with contextlib.suppress(InvalidToken):
        assert credentials.token() in {"", "x"}  # which the store does not know
    assert_masked(request)


def sent_in(place: str, token: str) -> tuple[str, str]:
    """Return the header that sends a token in this place."""
    values = {"authorization": f"Bearer {token}", "sec-websocket-protocol": PROTOCOL.replace(TOKEN, token)}
    return place, values.get(place, token)


PLACES = ["authorization", *KEY_HEADERS, "xi-api-key", "sec-websocket-protocol"]
CARRIERS = [place for place in PLACES if place != "xi-api-key"]
PAIRS = [(first, second) for first in CARRIERS for second in PLACES if not first == second == "authorization"]


@pytest.mark.parametrize("first", PLACES)
@pytest.mark.parametrize("second", PLACES)
@pytest.mark.parametrize("prefix", ["", "sk-"])
def test_rejects_two_different_tokens_in_any_headers(first: str, second: str, prefix: str) -> None:
    credentials, request = take(*UPGRADE, sent_in(first, TOKEN), sent_in(second, prefix + OTHER))
    with pytest.raises(InvalidRequest, match="Send one"):
        credentials.token()
    assert OTHER.encode() not in bytes(request.headers)
    assert_masked(request)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_same_token_in_two_headers_is_accepted(first: str, second: str) -> None:
    credentials, request = take(*UPGRADE, sent_in(first, f"sk-{TOKEN}"), sent_in(second, TOKEN))
    assert credentials.token() == TOKEN
    assert_masked(request)


@pytest.mark.parametrize("placeholder", ["unused", "", "sk-ant-0123456789", MASK])
@pytest.mark.parametrize("names", [KEY_HEADERS, KEY_HEADERS[::-1], ["x-api-key", "x-api-key"]])
def test_a_placeholder_beside_the_token_is_ignored(names: list[str], placeholder: str) -> None:
    first, *others = names
    credentials, _ = take((first, placeholder), *((name, TOKEN) for name in others))
    assert credentials.token() == TOKEN


@pytest.mark.parametrize("value", ["unused", "", f"{TOKEN}x", TOKEN.upper(), f"{TOKEN}, {TOKEN}"])
def test_rejects_values_without_the_form_of_a_token(value: str) -> None:
    credentials, _ = take(("x-api-key", value))
    assert credentials.token() == value  # which the store does not know


@pytest.mark.parametrize("place", CARRIERS)
def test_masked_credentials_are_extracted_as_the_mask(place: str) -> None:
    """The mask marks a replay."""
    _, request = take(*UPGRADE, sent_in(place, TOKEN), ("xi-api-key", TOKEN))
    masked = request.headers.fields
    assert authentication.extract(request).token() == MASK
    assert request.headers.fields == masked


QUERIES = {
    f"key={TOKEN}": "key=***token***",
    f"a=1&api_key={TOKEN}&b=%20+x": "a=1&api_key=***token***&b=%20+x",
    f"access_token=sk-{TOKEN}": "access_token=***token***",
    f"key={TOKEN}&token={TOKEN}&&x": "key=***token***&token=***token***&&x",
    f"key={TOKEN.replace('-', '%2D')}": "key=***token***",
    f"key=%73k%2d{TOKEN[0]}{TOKEN[1:]}": "key=***token***",
    "key=" + "".join(f"%{ord(char):02x}" for char in TOKEN): "key=***token***",
    TOKEN: "***token***",
    f"={TOKEN}": "=***token***",
    f"key={TOKEN}#x": "key=***token***",
    f"after={OTHER}": "after=***token***",
}


@pytest.mark.parametrize("path", ["/v1/models", "/v1/", "/health", "/ready", "/nowhere", ""])
@pytest.mark.parametrize("query", QUERIES)
def test_a_token_in_a_query_is_masked_and_is_no_credential(query: str, path: str) -> None:
    credentials, request = take(path=f"{path}?{query}")
    assert request.data.path.decode() == f"{path}?{QUERIES[query]}"
    with pytest.raises(InvalidToken):
        credentials.token()


def test_a_token_in_a_query_is_no_second_token() -> None:
    credentials, _ = take(("Authorization", f"Bearer {TOKEN}"), path=f"/v1/files?after={OTHER}")
    assert credentials.token() == TOKEN


@pytest.mark.parametrize(
    "target",
    [
        *("/v1/models", "/v1/models?", "/v1/models?limit=20&after=file-abc&order=asc", "/v1/x?q=***&r=sk-***"),
        *(f"/v1/files/{TOKEN}", f"/v1/x?key={TOKEN}x", f"/v1/x?key={TOKEN.upper()}", f"/v1/x?a=b={TOKEN}"),
        *(f"/v1/x?key={TOKEN.replace('-', '')}", f"/v1/x?key=Bearer%20{TOKEN}", "/v1/x?" + "%41" * 40),
    ],
)
def test_the_rest_of_a_target_is_unchanged(target: str) -> None:
    assert take(path=target)[1].data.path == target.encode()


VALUES = st.text(st.sampled_from("&=?;%#+*-0a4sk"), max_size=60) | st.sampled_from(
    [TOKEN.replace("-", "", 1), f"sk-{TOKEN}0"]
)


@given(st.lists(VALUES).map("".join))
@example("***")
@example("=" * 100)
@example("%zz" * 20)
def test_a_query_without_a_token_passes_byte_for_byte(query: str) -> None:
    target = f"/v1/x?{query}"
    assert take(path=target)[1].data.path == target.encode()


@given(st.lists(VALUES.filter(lambda value: "&" not in value)), st.integers(0), st.sampled_from(["", "sk-", "%73k-"]))
def test_only_the_token_in_a_query_is_changed(parameters: list[str], position: int, prefix: str) -> None:
    place = position % (len(parameters) + 1)
    with_token = [*parameters[:place], f"key={prefix}{TOKEN}", *parameters[place:]]
    masked = [*parameters[:place], f"key={authentication.MASKED_VALUE.decode()}", *parameters[place:]]
    assert take(path=f"/v1/x?{'&'.join(with_token)}")[1].data.path.decode() == f"/v1/x?{'&'.join(masked)}"


def test_credentials_are_not_in_their_repr() -> None:
    credentials, _ = take(*UPGRADE, ("Authorization", f"Bearer {TOKEN}"), ("Sec-WebSocket-Protocol", PROTOCOL))
    assert TOKEN not in repr(credentials)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    *(b"authorization", b"Authorization", b"sec-websocket-protocol", b"connection", b"x"),
                    *(b"x-api-key", b"API-Key", b"x-goog-api-key", b"xi-api-key", b"cookie"),
                ]
            ),
            st.lists(
                st.one_of(
                    st.sampled_from([b"Bearer ", b",", b" ", b"Basic", b"sk-", TOKEN.encode(), PROTOCOL.encode()]),
                    st.binary(max_size=3),
                ),
                max_size=5,
            ).map(b"".join),
        ),
        max_size=5,
    )
)
def test_extracting_never_raises_and_leaves_no_token_on_the_request(headers: list[tuple[bytes, bytes]]) -> None:
    credentials, request = take(*headers)
    for name, value in request.headers.fields:
        if name.lower() not in {b"sec-websocket-protocol", b"connection", b"x"}:
            assert TOKEN.encode() not in value
    with contextlib.suppress(InvalidToken, InvalidRequest):
        credentials.token()
