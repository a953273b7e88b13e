import logging

import pytest
from mitmproxy import flow
from mitmproxy.test import tflow
from support.gateway.requests import make_request, make_response

from addon import access_log
from addon.exchange import Exchange
from addon.metering.meter import Meter
from addon.websocket_session import Turn
from store.errors import TokenInactive
from store.request import Opened

TOKEN = "6fd5ce84-0efa-4d8d-9dbd-8de4ab5e8b1b"


@pytest.mark.parametrize(("path", "lines"), [("/health", 0), ("/ready", 0), ("/token", 1), ("/v1/models", 1)])
def test_requests_that_ask_how_the_proxy_is_are_logged_at_debug_level_only(
    caplog: pytest.LogCaptureFixture, path: str, lines: int
) -> None:
    caplog.set_level(logging.INFO)
    access_log.write(tflow.tflow(req=make_request(path=path)), Exchange())
    assert len(caplog.records) == lines


def test_secrets_in_a_path_and_in_an_error_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    http_flow = tflow.tflow(req=make_request(path=f"/v1/x/{TOKEN}/sk-0123456789?key={TOKEN}"))
    http_flow.error = flow.Error(f"unexpected data: {f'Bearer {TOKEN}'.encode()!r}")
    access_log.write(http_flow, Exchange())
    (record,) = caplog.records
    assert (vars(record)["path"], vars(record)["error"]) == ("/v1/x/***/***", "unexpected data: <bytes>")
    assert TOKEN not in str(vars(record))


@pytest.mark.parametrize(("streamed", "status"), [(True, 200), (False, 401)])
def test_a_request_that_was_cut_is_logged_with_its_code_and_the_status_that_its_client_got(
    caplog: pytest.LogCaptureFixture, streamed: bool, status: int
) -> None:
    caplog.set_level(logging.INFO)
    exchange = Exchange(streamed=streamed)
    exchange.cut(TokenInactive())
    access_log.write(tflow.tflow(req=make_request(), resp=make_response()), exchange)
    (record,) = caplog.records
    assert (vars(record)["status"], vars(record)["code"]) == (status, "token_inactive")


@pytest.mark.parametrize(("cut", "code"), [(None, None), (TokenInactive(), "token_inactive")])
def test_a_response_over_a_websocket_is_logged_with_the_code_that_it_was_cut_with(
    caplog: pytest.LogCaptureFixture, cut: TokenInactive | None, code: str | None
) -> None:
    caplog.set_level(logging.INFO)
    opened = Opened("the-id", 0, "the-project", "the-token", "/v1/realtime")
    turn = Turn(Meter("GET", "/v1/realtime", None), opened, cut=cut)
    access_log.write_turn(tflow.tflow(req=make_request()), Exchange(), turn, opened)
    (record,) = caplog.records
    assert vars(record)["request_id"] == "the-id"
    assert vars(record).get("code") == code
