"""A change holds for the first request after its response: on a kept-alive connection, with a token that was just used,
in another process, on each store."""

import contextlib
from typing import Any, Self

import httpx
from support.clients.talk import Talk
from support.gateway.gateway import Gateway, bearer, on_each_store
from support.stores.stores import set_columns
from support.upstreams.upstreams import KEY, DemoUpstream
from websockets.frames import CloseCode

pytestmark = on_each_store

OTHER_KEY = "sk-the-key-that-replaces-it"


class Clients:
    """A client with a kept-alive connection to each of the proxies; the token was just used on all of them."""

    def __init__(self, gateway: Gateway, **fields: object) -> None:
        self.project = gateway.make_project()
        self.token = gateway.make_token(self.project["id"], **fields)
        self._clients = [httpx.Client(base_url=proxy.url, headers=bearer(self.token)) for proxy in gateway.proxies]
        self.check(200)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()

    def check(self, status: int, code: str | None = None) -> None:
        """Send a request over each connection, which must have this answer."""
        assert self.ask() == [(status, code)] * len(self._clients)

    def ask(self) -> list[tuple[int, str | None]]:
        """Send a request over each connection; return the status and code of each answer."""
        answers = [client.get("/v1/models") for client in self._clients]
        return [(answer.status_code, answer.json().get("code")) for answer in answers]


def test_a_revoked_token_is_refused_at_once(gateway: Gateway) -> None:
    with Clients(gateway) as clients:
        assert gateway.manage("DELETE", f"/manage/tokens/{clients.token['id']}").status_code == 204
        clients.check(401, "token_inactive")
        gateway.manage("PATCH", f"/manage/tokens/{clients.token['id']}", {"is_active": True}).raise_for_status()
        clients.check(200)


def test_a_revoke_closes_an_open_websocket(gateway: Gateway) -> None:
    token = gateway.make_token()
    with contextlib.ExitStack() as stack:
        talks = [stack.enter_context(Talk(proxy.url)) for proxy in gateway.proxies]
        assert [talk.respond(token["token"]) for talk in talks] == [200] * len(talks)
        assert gateway.manage("DELETE", f"/manage/tokens/{token['id']}").status_code == 204
        assert [talk.respond(token["token"]) for talk in talks] == [401] * len(talks)
        assert [talk.close_code() for talk in talks] == [CloseCode.POLICY_VIOLATION] * len(talks)
        assert gateway.token(token["id"])["request_count"] == len(talks)


def test_tokens_revoked_together_are_refused_at_once(gateway: Gateway) -> None:
    with Clients(gateway) as clients:
        revoked = gateway.manage("POST", f"/manage/projects/{clients.project['id']}/tokens/revoke").json()
        assert revoked["revoked_count"] == 1
        clients.check(401, "token_inactive")


def test_an_expired_token_is_refused_at_once(gateway: Gateway) -> None:
    with Clients(gateway) as clients:
        expire(gateway, clients.token)
        clients.check(401, "token_expired")


def test_a_lowered_limit_refuses_at_once(gateway: Gateway) -> None:
    with Clients(gateway) as clients:
        gateway.manage("PATCH", f"/manage/tokens/{clients.token['id']}", {"max_requests": 1}).raise_for_status()
        clients.check(429, "insufficient_quota")


def test_a_project_switched_off_is_refused_until_it_is_on(gateway: Gateway) -> None:
    with Clients(gateway) as clients:
        path = f"/manage/projects/{clients.project['id']}"
        gateway.manage("PATCH", path, {"is_active": False}).raise_for_status()
        clients.check(403, "project_inactive")
        gateway.manage("PATCH", path, {"is_active": True}).raise_for_status()
        clients.check(200)


def test_tokens_of_a_deleted_project_are_refused_at_once(gateway: Gateway) -> None:
    with Clients(gateway) as clients:
        assert gateway.manage("DELETE", f"/manage/projects/{clients.project['id']}").status_code == 204
        clients.check(401, "invalid_token")


def test_a_replaced_key_is_used_at_once(gateway: Gateway, upstream: DemoUpstream) -> None:
    with Clients(gateway) as clients:
        path = f"/manage/projects/{clients.project['id']}"
        gateway.manage("PATCH", path, {"api_key": OTHER_KEY}).raise_for_status()
        asked = clients.ask()
        assert {*asked} == {(503, "upstream_key_rejected")}
        assert {key_of(request) for request in upstream.requests()[-len(asked) :]} == {OTHER_KEY}
        gateway.manage("PATCH", path, {"api_key": KEY}).raise_for_status()
        clients.check(200)


def test_a_refused_request_is_not_counted(gateway: Gateway) -> None:
    with Clients(gateway) as clients:
        gateway.manage("DELETE", f"/manage/tokens/{clients.token['id']}").raise_for_status()
        counted = len(clients.ask())
        assert gateway.token(clients.token["id"])["request_count"] == counted


def expire(gateway: Gateway, token: dict[str, Any]) -> None:
    """Put a token's expiry into the past; the API only makes tokens that last a day."""
    with gateway.store() as store:
        set_columns(store, "token", token["id"], expires_at=1)


def key_of(request: dict[str, Any]) -> str:
    values = [value for name, value in request["headers"] if name.lower() == "authorization"]
    return str(values[0]).removeprefix("Bearer ")
