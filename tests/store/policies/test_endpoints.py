import pytest

from store.policies import endpoints
from store.policies.endpoints import Call

CHAT = Call("POST", "/v1/chat/completions")


@pytest.mark.parametrize(
    ("path", "compared"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/ch%61t/completions", "/v1/chat/completions"),
        ("/v1/models/org%2Fname", "/v1/models/org/name"),
        ("/v1/models/ft:gpt-4o@1~x", "/v1/models/ft:gpt-4o@1~x"),
    ],
)
def test_a_path_is_compared_decoded_once_without_a_trailing_slash(path: str, compared: str) -> None:
    assert endpoints.call("POST", path) == Call("POST", compared)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/%252e%252e/chat/completions",
        "/v1/chat%2520completions",
        "/v1/files/%09",
        "/v1/files/%00x",
        "/v1/files/%20",
        "/v1/caf%C3%A9",
        "/v1/files/%ef%bc%8e%ef%bc%8e/x",
        "/v1/files/100%",
    ],
)
def test_a_path_that_upstreams_read_variously_is_not_compared(path: str) -> None:
    assert endpoints.call("POST", path) is None


@pytest.mark.parametrize(
    "entry",
    [
        "*",
        "* *",
        "POST *",
        "* /v1/*",
        "* /v1*",
        "POST /v1/chat/completions",
        "POST /v1/chat/*",
        "* */completions",
        "* *t/c*",
    ],
)
def test_an_entry_allows_what_it_matches(entry: str) -> None:
    assert endpoints.allows(entry, CHAT)
    assert endpoints.fault(entry) is None


@pytest.mark.parametrize(
    "entry",
    [
        "GET /v1/chat/completions",
        "POST /v1/chat/completion",
        "POST /v1/chat/completions/*",
        "POST /v1/Chat/completions",
        "* /v1/files*",
        "* /v1/chat?completions",
        "POST /v1/chat.completions",
        "* /v1/chat/completions*x",
        "* /v1/*completions*completions",
    ],
)
def test_an_entry_allows_nothing_else(entry: str) -> None:
    assert not endpoints.allows(entry, CHAT)


@pytest.mark.parametrize(
    "entry",
    [
        *("", "POST", "/v1/chat/completions", "post /v1/chat/completions", "OPTIONS /v1/files", "CONNECT *"),
        *("POST  /v1/files", "POST /v1/files ", "POST /v2/files", "POST /health", "POST v1/files", "P* /v1/files"),
        *("* /v1/files/", "* /v1/a%2Fb", "* /v1/files?a=b", "* /v1/files#a", "* /v1\\files", "* /v1/caf\u00e9"),
        "* /v1/" + "a" * 600,
    ],
)
def test_an_entry_that_could_match_nothing_is_a_fault(entry: str) -> None:
    assert (endpoints.fault(entry) or "").startswith("must ")


CALLS = Call("POST", "/v1/realtime/calls")
ACCEPT = Call("POST", "/v1/realtime/calls/rtc_1/accept")
PART = "/v1/realtime/calls"


@pytest.mark.parametrize(
    ("entry", "opened"),
    [
        ("POST /v1/realtime/calls", [CALLS]),
        ("* /v1/realtime/calls", [CALLS]),
        ("POST /v1/realtime/calls*", [CALLS, ACCEPT]),
        ("* /v1/realtime/calls/*", [ACCEPT]),
        ("POST /v1/realtime/calls/rtc_1/accept", [ACCEPT]),
        ("POST /v1/realtime/calls/*/accept", [ACCEPT]),
        ("GET /v1/realtime/calls", []),
        ("POST /v1/realtime/*", []),
        ("POST /v1/realtime/call*", []),
        ("POST /v1/*/calls", []),
        ("* /v1/*", []),
        ("* *", []),
        ("*", []),
    ],
)
def test_an_entry_opens_an_endpoint_whose_refused_part_it_writes_out(entry: str, opened: list[Call]) -> None:
    assert [call for call in (CALLS, ACCEPT) if endpoints.opens(entry, call, PART)] == opened
