"""No token reaches an endpoint that hands out credentials of the provider's or manages its account: refused, not
counted, without a connection; and a fault of the token itself is answered first."""

from typing import Any

import httpx
import pytest
from openai import OpenAI, PermissionDeniedError
from support.gateway.gateway import Gateway, bearer, on_each_store
from support.gateway.relay import Relay
from support.stores.ledger import without_usage
from support.stores.stores import UNKNOWN_TOKEN
from support.upstreams.upstreams import DemoUpstream

RESERVED = (403, "endpoint_not_allowed")


def answered(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/v1/realtime/client_secrets"),
        ("POST", "/v1/realtime%2fClient_Secrets"),
        ("POST", "/v1/x/%252e%252e/realtime/sessions?x"),
        ("POST", "/v1/realtime?model=gpt-realtime"),
        ("GET", "/v1/organization/admin_api_keys"),
        ("DELETE", "/v1/keys/abc;x"),
    ],
)
def test_a_reserved_endpoint_is_refused_without_a_connection(relay: Relay, method: str, target: str) -> None:
    relay.expect()
    token = relay.gateway.make_token()
    url, headers = relay.gateway.url + target, bearer(token)
    assert answered(httpx.request(method, url, headers=headers)) == RESERVED
    upload = httpx.request(method, url, headers=headers, content=iter([b"a piece of an upload"]))
    assert answered(upload) == RESERVED
    assert relay.upstream.conversations == []
    assert without_usage(relay.gateway.token(token["id"])) == token


@on_each_store
def test_a_fault_of_the_token_is_answered_first(gateway: Gateway, upstream: DemoUpstream) -> None:
    def ask(token: dict[str, Any]) -> tuple[int, str]:
        return answered(httpx.post(f"{gateway.url}/v1/realtime/client_secrets", headers=bearer(token), json={}))

    upstream.clear()
    token = gateway.make_token(max_requests=1)
    assert httpx.get(f"{gateway.url}/v1/models", headers=bearer(token)).status_code == 200
    used = without_usage(gateway.token(token["id"]))
    assert ask({"token": UNKNOWN_TOKEN}) == (401, "invalid_token")
    assert ask(token) == RESERVED  # and not that it is used up
    gateway.manage("PATCH", f"/manage/projects/{token['project_id']}", {"is_active": False}).raise_for_status()
    assert ask(token) == (403, "project_inactive")
    gateway.manage("DELETE", f"/manage/tokens/{token['id']}").raise_for_status()
    assert ask(token) == (401, "token_inactive")
    assert without_usage(gateway.token(token["id"])) == {**used, "is_active": False}
    assert upstream.count() == 1


def test_the_sdk_gets_an_error_that_says_what_to_do(relay: Relay) -> None:
    with (
        OpenAI(base_url=f"{relay.gateway.url}/v1", api_key=relay.token["token"], max_retries=0) as client,
        pytest.raises(PermissionDeniedError) as caught,
    ):
        client.realtime.client_secrets.create()
    assert "open a WebSocket at /v1/realtime" in str(caught.value.body)
