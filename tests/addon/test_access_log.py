import logging

import pytest
from mitmproxy import flow
from mitmproxy.test import tflow
from support.gateway.requests import make_request

from addon import access_log
from addon.exchange import Exchange

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
