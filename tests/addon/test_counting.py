import time

import pytest
from mitmproxy import flow as mitmproxy_flow
from mitmproxy import http
from mitmproxy.test import tflow

from addon import counting
from addon.exchange import Exchange
from addon.metering.meter import Meter
from addon.protocol.endpoints import OTHER, endpoint_of
from addon.websocket_session import Turn
from store.errors import (
    DestinationRefused,
    GatewayError,
    InvalidToken,
    QuotaExhausted,
    ServiceUnavailable,
    UpstreamKeyRejected,
    UpstreamTimeout,
)
from store.metrics.figures import SUM, Figures
from store.request import Opened

GONE = "Client disconnected."


def opened(endpoint: str = "/v1/models") -> Opened:
    return Opened("id", 0, "project", "token", endpoint)


def ended(
    error: str = "", refusal: GatewayError | None = None, *, sent: bool = True, status: int | None = None
) -> tuple[http.HTTPFlow, Exchange]:
    """Return an admitted exchange that has ended in some way, and its flow."""
    flow, exchange = tflow.tflow(), Exchange()
    exchange.opened = opened()
    exchange.sent_at = exchange.started + 0.25 if sent else None
    exchange.answered_at = exchange.started + 1 if status else None
    exchange.status = status
    exchange.ended = not error
    flow.error = mitmproxy_flow.Error(error) if error else None
    if refusal is not None:
        exchange.refuse(refusal)
    return flow, exchange


@pytest.mark.parametrize(
    ("flow_and_exchange", "kind"),
    [
        (ended(status=200), None),
        (ended(status=302), None),
        (ended(status=404), "4xx"),
        (ended(status=503), "5xx"),
        (ended("broken", status=500), "5xx"),
        (ended("broken", status=200), "cut"),
        (ended("broken", ServiceUnavailable(), sent=False), "connect"),
        (ended("broken", ServiceUnavailable()), "no_response"),
        (ended("broken"), "no_response"),
        (ended("late", UpstreamTimeout()), "timeout"),
        (ended("late", UpstreamTimeout(), status=200), "timeout"),
        (ended("refused", UpstreamKeyRejected(), status=401), "key_rejected"),
        (ended("refused", DestinationRefused(), sent=False), None),
        (ended("cut", QuotaExhausted(), status=200), None),
        (ended(GONE, status=200), None),
        (ended("stream reset by client (CANCEL)", status=200), None),
        (ended(mitmproxy_flow.Error.KILLED_MESSAGE, status=200), None),
    ],
)
def test_kinds_of_errors(flow_and_exchange: tuple[http.HTTPFlow, Exchange], kind: str | None) -> None:
    assert counting.upstream_error(*flow_and_exchange) == kind


def test_a_client_that_leaves_before_its_request_is_sent_is_no_error() -> None:
    flow, exchange = ended("broken", sent=False)
    exchange.abandon()
    figures = Figures()
    counting.count(figures, flow, exchange)
    assert not figures.counts().keys() & {"errors", "upstream_errors"}


def test_latencies_are_counted_and_what_the_gateway_adds_has_no_wait_for_the_body() -> None:
    figures, (flow, exchange) = Figures(), ended(status=200)
    exchange.waited = 0.2
    counting.count(figures, flow, exchange)
    counts = figures.counts()
    assert counts["first_byte"]["/v1/models 2xx"] == {"1.0": 1, SUM: pytest.approx(1)}
    assert counts["added"]["/v1/models"] == {"0.05": 1, SUM: pytest.approx(0.05)}
    assert counts["request"].keys() == {"/v1/models 2xx"}


def test_waiting_for_a_body_is_measured() -> None:
    exchange = Exchange()
    exchange.await_body()
    before = time.monotonic()
    exchange.note_body()
    exchange.note_body()
    assert 0 <= exchange.waited <= time.monotonic() - before + 1
    assert exchange.waiting_since is None


def test_a_request_that_was_not_admitted_counts_as_an_error_alone() -> None:
    figures, exchange = Figures(), Exchange()
    exchange.refuse(InvalidToken())
    counting.count(figures, tflow.tflow(), exchange)
    assert figures.counts().keys() == {"admission", "errors"}
    assert figures.counts()["errors"] == {"invalid_token": {"": 1}}


def test_endpoints_and_statuses_that_clients_or_upstreams_make_up_share_a_label() -> None:
    figures = Figures()
    for endpoint, status in (("/v1/chat/chat", 200), ("/v1/files/files", 299), ("/v1/models", 999)):
        flow, exchange = ended(status=status)
        exchange.opened = opened(endpoint)
        counting.count(figures, flow, exchange)
    assert figures.counts()["request"].keys() == {f"{OTHER} 2xx", "/v1/models none"}


def test_the_endpoints_with_figures_of_their_own_are_some_of_the_ledgers() -> None:
    assert {endpoint_of(endpoint.replace("{id}", "some")) for endpoint in counting.ENDPOINTS} == counting.ENDPOINTS


def test_a_response_over_a_websocket_is_counted() -> None:
    figures, turn = Figures(), Turn(Meter("GET", "/v1/realtime", None))
    turn.began = turn.admitted + 0.5
    turn.cut = QuotaExhausted()
    counting.count_turn(figures, turn, opened("/v1/realtime"))
    counts = figures.counts()
    assert counts["first_byte"] == {"/v1/realtime 2xx": {"0.5": 1, SUM: 0.5}}
    assert counts["errors"] == {"insufficient_quota": {"": 1}}
