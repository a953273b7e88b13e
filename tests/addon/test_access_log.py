import logging

import pytest
from mitmproxy import flow
from mitmproxy.test import tflow
from support.gateway.requests import make_request

from addon import access_log
from addon.exchange import Exchange

TOKEN = "6fd5ce84-0efa-4d8d-9dbd-8de4ab5e8b1b"


def test_secrets_in_a_path_and_in_an_error_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    http_flow = tflow.tflow(req=make_request(path=f"/v1/x/{TOKEN}/sk-0123456789?key={TOKEN}"))
    http_flow.error = flow.Error(f"unexpected data: {f'Bearer {TOKEN}'.encode()!r}")
    access_log.write(http_flow, Exchange())
    (record,) = caplog.records
    assert (vars(record)["path"], vars(record)["error"]) == ("/v1/x/***/***", "unexpected data: <bytes>")
    assert TOKEN not in str(vars(record))
