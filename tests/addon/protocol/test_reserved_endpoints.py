import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.attacks.written_paths import Reader, write
from support.gateway.requests import make_request
from support.load.effort import passes

from addon import validation
from addon.protocol.reserved_endpoints import MAX_DECODINGS, is_reserved, reserved_part
from store.errors import GatewayError

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

OPENAI = (Path(__file__).parent / "openai_paths.txt").read_text().split()
"""All paths of OpenAI's API description (its openapi.yaml of August 2026), with `{id}` for each parameter."""

RESERVED_AT_OPENAI = {
    "/v1/chatkit/sessions",
    "/v1/chatkit/sessions/{id}/cancel",
    "/v1/fine_tuning/checkpoints/{id}/permissions",
    "/v1/fine_tuning/checkpoints/{id}/permissions/{id}",
    "/v1/projects/{id}/groups/{id}/roles",
    "/v1/projects/{id}/groups/{id}/roles/{id}",
    "/v1/projects/{id}/roles",
    "/v1/projects/{id}/roles/{id}",
    "/v1/projects/{id}/users/{id}/roles",
    "/v1/projects/{id}/users/{id}/roles/{id}",
    "/v1/realtime/calls",
    "/v1/realtime/calls/{id}/accept",
    "/v1/realtime/calls/{id}/hangup",
    "/v1/realtime/calls/{id}/refer",
    "/v1/realtime/calls/{id}/reject",
    "/v1/realtime/client_secrets",
    "/v1/realtime/sessions",
    "/v1/realtime/transcription_sessions",
    "/v1/realtime/translations/client_secrets",
}
"""The reserved ones, without the 59 under /v1/organization/."""


@pytest.mark.parametrize("method", METHODS)
def test_only_these_endpoints_of_openai_are_reserved(method: str) -> None:
    reserved = {path for path in OPENAI if is_reserved(method, path.replace("{id}", "abc-123_X").encode())}
    organization = {path for path in OPENAI if path.startswith("/v1/organization/")}
    assert (len(OPENAI), len(organization)) == (176, 59)
    assert reserved - organization == RESERVED_AT_OPENAI
    assert organization <= reserved


@pytest.mark.parametrize(
    "path",
    [
        "/v1/realtime/client_secrets/",
        "/v1/realtime/translations/calls",
        "/v1/realtimertc",
        "/v1/chatkit/sessions/new/ones",
        "/v1/organization",
        "/v1/organizations/api_keys",
        "/v1/projects",
        "/v1/keys",
        "/v1/keys/abc",
        "/v1/key",
        "/v1/auth",
        "/v1/auth/keys/code",
        "/v1/api-key",
        "/v1/api_keys",
        "/v1/oauth/token",
        "/v1/tunnels/tnl_1/reveal_token",
        "/v1/scoped-jwt",
        "/v1/auth_tokens",
        "/v1/single-use-token/realtime_scribe",
        "/v1/convai/conversation/get-signed-url",
        "/v1/convai/conversation/get_signed_url",
        "/v1/user",
        "/v1/service-accounts/sa_1/api-keys",
        "/v1/accounts/acme/users/me/apiKeys",
        "/v1/workspaces/ws/members/add",
        "/v1/credits/coinbase",
        "/v1/dashboard/billing/usage",
    ],
)
def test_endpoints_of_other_providers_are_reserved_for_every_method(path: str) -> None:
    assert all(is_reserved(method, path.encode()) for method in METHODS)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/realtime/client%5Fsecrets",
        "/v1/%72ealtime/client_secrets",
        "/v1/realtime%2Fclient_secrets",
        "/v1/realtime%252fclient_secrets",
        "/v1/realtime%25252Fclient_secrets",
        "/v1/%2525252572ealtime/client_secrets",
        "/v1/%%37%32ealtime/client_secrets",
        "/v1/Realtime/CLIENT_Secrets",
        "/v1/realtime;x=1/client_secrets;y",
        "/v1/realtime%3Bx/client_secrets%253b",
        "/v1/realtime/client_secrets%2F",
        "/v1/realtime/client_secrets%20",
        "/v1/realtime/%09client_secrets.",
        "/v1/realtime/client_secrets.json",
        "/v1/realtime/client_secrets%00.txt",
        "/v1/realtime/client_secrets%00x",
        "/v1/realtime/client_%00secrets",
        "/v1/realtime/client_%0D%0Asecrets%00x",
        "/v1/realtime/client_secrets%0D%0Ax",
        "/v1/realtime/client_secrets%20HTTP/1.1%0d%0ax",
        "/v1/realtime/client_secrets%3Fx",
        "/v1/realtime/client_secrets%23x",
        "/v1/realtime%255cclient_secrets",
        "/v1/realtime//client_secrets",
        "/v1/x/%252e%252e/realtime/client_secrets",
        "/v1/x%252f..%252frealtime/client_secrets",
        "/v1/%252e%252e/v1/realtime/client_secrets",
        "/v1/%252e/realtime/client_secrets",
        "/v1/v1/realtime/client_secrets",
        "/v1/realtime/%c0%ae/client_secrets",
        "/v1/realtime%c0%afclient_secrets",
        "/v1/realtime%e0%80%afclient_secrets",
        "/v1/realtime%f0%80%80%afclient_secrets",
        "/v1/realtime/%u0063lient_secrets",
        "/v1/realtime/client_secret%C5%BF",
        "/v1/%EF%BD%92ealtime/client_secrets",
        "/v1/realtime/cl%C4%B1ent_secrets",
        "/v1/realtime/client%E2%80%8B_secrets",
        "/v1/realtime/client_secrets%FF",
    ],
)
def test_a_reserved_endpoint_is_recognised_in_every_spelling(path: str) -> None:
    assert is_reserved("POST", path.encode())


@pytest.mark.parametrize(
    "path",
    [
        "/v1/",
        "/v1/models/org%2Fname",
        "/v1/models/keys%2Fauth",
        "/v1/models/org%252Fname",
        "/v1/models/caf%C3%A9",
        "/v1/models/100%25",
        "/v1/models/a%2525b",
        "/v1/models/%252e%252e",
        "/v1/models/%00",
        "/v1/models/ft:gpt-4o:keys::abc",
        "/v1/models;keys",
        "/v1/files/projects/content",
        "/v1/keyspaces",
        "/v1/authors",
        "/v1/project",
        "/v1/users",
        "/v1/realtimes/sessions",
        "/v1/chatkit/threads/cthr_1/items",
        "/v1/fine_tuning/jobs/ftjob_1/checkpoints",
        "/v1/sessions/sess_1/events",
        "/v1/accounts/acme/models",
        "/v1/observability/traces/search",
        "/v1/messages/count_tokens",
        "/v1/presets/x/chat/completions",
    ],
)
def test_other_paths_are_not_reserved(path: str) -> None:
    assert not any(is_reserved(method, path.encode()) for method in METHODS)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/realtime",
        "/v1/realtime/",
        "/v1/realtime/translations",
        "/v1/%72ealtime",
        "/v1/live",
        "/v1/live/sessions",
        "/v1/live/sessions/sess_1/accept",
        "/v1/live%2Fsessions",
    ],
)
def test_sessions_may_be_opened_as_websockets_but_not_posted(path: str) -> None:
    assert [is_reserved(method, path.encode()) for method in METHODS] == [False, False, True, True, True, True]


def test_a_path_that_is_encoded_too_often_is_reserved() -> None:
    assert not is_reserved("GET", b"/v1/models/%" + b"25" * (MAX_DECODINGS - 1) + b"41")
    assert is_reserved("GET", b"/v1/models/%" + b"25" * MAX_DECODINGS + b"41")


@given(st.integers(0, 2**32))
def test_no_path_passes_that_a_server_reads_as_a_reserved_endpoint(seed: int) -> None:
    """A sample of the soak's million paths."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    readers = [Reader(chance) for _ in range(20)]
    for path in (write(chance) for _ in range(10)):
        request = make_request(path=path, method="POST")
        try:
            validation.check(request)
        except GatewayError:
            continue
        if any(reader.is_refused(path) for reader in readers):
            assert is_reserved("POST", validation.path_of(request)), path


@pytest.mark.parametrize(
    "path",
    [b"/v1/a" + b"/a" * 32_000, b"/v1" * 21_000, b"/v1/%252e%252e" + b"/realtime" * 7_000, b"/v1/" + b"%25" * 21_000],
)
def test_the_time_for_the_longest_path_is_linear(path: bytes) -> None:
    assert passes(lambda: is_reserved("GET", path)) < 10


@pytest.mark.parametrize(
    ("method", "path", "part"),
    [
        ("POST", "/v1/chat/completions", None),
        ("GET", "/v1/realtime", None),
        ("POST", "/v1/realtime", "/v1/realtime"),
        ("POST", "/v1/realtime/calls", "/v1/realtime/calls"),
        ("POST", "/v1/realtime/calls/rtc_1/accept", "/v1/realtime/calls"),
        ("GET", "/v1/realtime/calls/rtc_1/accept", "/v1/realtime/calls"),
        ("POST", "/v1/Realtime/Calls/", "/v1/Realtime/Calls"),
        ("POST", "/v1/realtime/calls/x/client_secrets", "/v1/realtime/calls/x/client_secrets"),
        ("POST", "/v1/realtime/unknown/more", "/v1/realtime/unknown"),
        ("GET", "/v1/organization/usage/completions", "/v1/organization"),
        ("POST", "/v1/fine_tuning/checkpoints/x/permissions", "/v1/fine_tuning/checkpoints/x/permissions"),
        ("GET", "/v1/v1/keys/abc", "/v1/v1/keys"),
        ("POST", "/v1/%72ealtime/calls", ""),
        ("POST", "/v1/realtime/calls;x", ""),
        ("POST", "/v1/x/%252e%252e/realtime/sessions", ""),
    ],
)
def test_the_part_that_makes_a_path_reserved_is_told(method: str, path: str, part: str | None) -> None:
    assert reserved_part(method, path.encode()) == part


@pytest.mark.parametrize("path", OPENAI)
def test_every_reserved_path_has_a_part_from_its_start(path: str) -> None:
    for method in METHODS:
        written = path.replace("{id}", "abc-123_X")
        part = reserved_part(method, written.encode())
        assert (part is not None) == is_reserved(method, written.encode())
        assert part is None or f"{written}/".startswith(f"{part}/")
