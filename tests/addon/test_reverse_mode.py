import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import connection, exceptions
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import taddons
from support.gateway.inprocess import hooked
from support.gateway.requests import make_request
from support.stores.stores import make_settings, opened

from addon.gateway import Gateway
from addon.reverse_mode import ReverseMode
from store.admission.admission import Admission
from store.runtime.settings import Settings, Upstream
from store.store import Store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path, upstream_url="http://upstream:1234/base")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with opened(settings) as store:
        yield store


class Bench:
    """A gateway that runs in a context of mitmproxy's."""

    def __init__(self, mode: ReverseMode, context: taddons.context) -> None:
        self.mode = mode
        self.context = context


def run(
    settings: Settings,
    store: Store,
    test: Callable[[Bench], Coroutine[object, object, None]],
    mode: str = "reverse:http://upstream:1234",
) -> None:
    async def main() -> None:
        with hooked(settings, store, mode) as (gateway, context):
            await test(Bench(gateway.reverse_mode, context))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("destination", "upstream"),
    [
        (("http", "upstream", 1234), Upstream("http", "upstream", 1234, "/base")),
        (("https", "upstream", 1234), None),
        (("http", "attacker", 1234), None),
        (("http", "upstream", 80), None),
    ],
)
def test_the_upstream_of_a_request_is_the_one_of_the_mode_or_none(
    settings: Settings, store: Store, destination: tuple[str, str, int], upstream: Upstream | None
) -> None:
    async def test(bench: Bench) -> None:
        request = make_request()
        request.scheme, request.host, request.port = destination
        assert bench.mode.upstream_of(request) == upstream

    run(settings, store, test)


def test_the_path_prefix_holds_for_the_origin_of_the_setting_alone(settings: Settings, store: Store) -> None:
    async def test(bench: Bench) -> None:
        request = make_request()
        request.scheme, request.host, request.port = "http", "other", 1234
        assert bench.mode.upstream_of(request) == Upstream("http", "other", 1234, "")

    run(settings, store, test, "reverse:http://other:1234")


@pytest.mark.parametrize(
    "mode",
    [
        "regular",
        "socks5",
        "dns",
        "upstream:http://127.0.0.1:9",
        "reverse:tcp://127.0.0.1:9",
        "reverse:tls://127.0.0.1:9",
        "reverse:udp://127.0.0.1:9",
        "reverse:dns://127.0.0.1:9",
        "reverse:http3://127.0.0.1:9",
    ],
)
def test_a_start_in_another_mode_is_an_error(
    settings: Settings, store: Store, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    """mitmproxy ends after an error at its start."""

    async def test(_: Bench) -> None:
        (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert "reverse mode only" in record.getMessage()

    run(settings, store, test, mode)


@pytest.mark.parametrize(
    ("mode", "transport", "served"),
    [
        ("reverse:http://upstream:1234", "tcp", True),
        ("reverse:https://upstream:1234", "tcp", True),
        ("reverse:https://upstream:1234", "udp", False),
        ("reverse:tcp://upstream:1234", "tcp", False),
        ("reverse:tls://upstream:1234", "tcp", False),
        ("reverse:dns://upstream:1234", "tcp", False),
        ("regular", "tcp", False),
        ("socks5", "tcp", False),
        ("upstream:http://other:1", "tcp", False),
        ("dns", "udp", False),
    ],
)
def test_only_reverse_mode_over_tcp_is_served(
    settings: Settings, store: Store, mode: str, transport: Any, served: bool
) -> None:
    async def test(bench: Bench) -> None:
        client = connection.Client(
            peername=("127.0.0.1", 1),
            sockname=("127.0.0.1", 2),
            proxy_mode=ProxyMode.parse(mode),
            transport_protocol=transport,
        )
        bench.mode.client_connected(client)
        assert (client.error is None) == served

    run(settings, store, test)


def test_a_clients_address_at_a_port_for_both_families_is_shown_as_ipv4(settings: Settings, store: Store) -> None:
    async def test(bench: Bench) -> None:
        client = connection.Client(
            peername=("::ffff:192.0.2.1", 1),
            sockname=("::ffff:127.0.0.1", 2),
            proxy_mode=ProxyMode.parse("reverse:http://upstream:1234"),
        )
        bench.mode.client_connected(client)
        assert (client.peername, client.sockname) == (("192.0.2.1", 1), ("127.0.0.1", 2))

    run(settings, store, test)


def test_nothing_is_served_before_the_gateway_runs(settings: Settings, store: Store) -> None:
    admission = Admission(store)
    with contextlib.closing(admission):
        client = connection.Client(
            peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), proxy_mode=ProxyMode.parse("reverse:http://u:1")
        )
        Gateway(settings, admission).reverse_mode.client_connected(client)
    assert client.error


@pytest.mark.parametrize(
    "option",
    [
        {"proxy_debug": True},
        {"connection_strategy": "eager"},
        {"keep_host_header": True},
        {"validate_inbound_headers": False},
        {"rawtcp": True},
    ],
)
def test_options_that_would_undo_a_promise_are_refused(
    settings: Settings, store: Store, option: dict[str, Any]
) -> None:
    async def test(bench: Bench) -> None:
        (name,) = option
        before = getattr(bench.context.options, name)
        assert before != option[name]
        with pytest.raises(exceptions.OptionsError):
            bench.context.options.update(**option)
        assert getattr(bench.context.options, name) == before

    run(settings, store, test)
