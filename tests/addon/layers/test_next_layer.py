import pytest
from mitmproxy.addons.next_layer import NextLayer as MitmproxysNextLayer
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Client
from mitmproxy.options import Options
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import ServerTLSLayer, modes
from mitmproxy.proxy.layers.http import HttpLayer
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import taddons

from addon.exchange import Exchanges
from addon.layers.client_tls import ClientTls
from addon.layers.keyed_layer import KeyedLayer
from addon.layers.next_layer import put_keyed_layer
from store.runtime.settings import Settings

PLAIN = b"GET /v1/models HTTP/1.1\r\n"
TLS = bytes.fromhex("1603010200010001fc0303")


@pytest.fixture
def settings() -> Settings:
    return Settings(_env_file=None)


def ask(mode: str, data: bytes) -> layer.NextLayer:
    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), proxy_mode=ProxyMode.parse(mode))
    options = Options()
    Proxyserver().load(options)
    context = Context(client, options)
    top = modes.ReverseProxy if mode.startswith("reverse:") else modes.HttpProxy
    top(context)
    asked = layer.NextLayer(context)
    asked.events.append(events.DataReceived(client, data))
    return asked


@pytest.mark.parametrize(
    ("scheme", "data", "expected"),
    [
        ("http", PLAIN, [KeyedLayer]),
        ("http", TLS, [ClientTls, KeyedLayer]),
        ("https", PLAIN, [ServerTLSLayer, KeyedLayer]),
        ("https", TLS, [ServerTLSLayer, ClientTls, KeyedLayer]),
    ],
)
@pytest.mark.parametrize("order", ["alone", "before mitmproxy's", "after mitmproxy's"])
def test_the_keyed_layer_is_put_above_what_tls_is_spoken(
    settings: Settings, scheme: str, data: bytes, expected: list[type[layer.Layer]], order: str
) -> None:
    with taddons.context(MitmproxysNextLayer()) as context:
        mitmproxys = context.master.addons.get("nextlayer")
        asked = ask(f"reverse:{scheme}://upstream:1", data)
        if order == "after mitmproxy's":
            mitmproxys.next_layer(asked)
            assert isinstance(asked.context.layers[-1], HttpLayer)
        put_keyed_layer(asked, Exchanges(lambda *_: None), settings)
        decided = asked.layer
        if order == "before mitmproxy's":
            mitmproxys.next_layer(asked)
    assert asked.layer is decided
    assert [type(put) for put in asked.context.layers] == [modes.ReverseProxy, *expected]
    assert asked.layer is asked.context.layers[1]


def test_a_connection_of_another_mode_is_left_alone(settings: Settings) -> None:
    asked = ask("regular", PLAIN)
    put_keyed_layer(asked, Exchanges(lambda *_: None), settings)
    assert asked.layer is None
    assert [type(put) for put in asked.context.layers] == [modes.HttpProxy]
