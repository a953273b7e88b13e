import base64

import pytest

from store.network.forward_proxy import Exceptions, ForwardProxy, Ways

NAME = "HTTPS_PROXY"


@pytest.mark.parametrize(
    ("url", "shown", "tls"),
    [
        ("http://proxy.example:3128", "proxy.example:3128", False),
        ("http://proxy.example:3128/", "proxy.example:3128", False),
        ("HTTP://Proxy.Example", "proxy.example:80", False),
        ("https://proxy.example", "proxy.example:443", True),
        ("proxy.example:3128", "proxy.example:3128", False),
        ("user:password@proxy.example:3128", "proxy.example:3128", False),
        ("http://[2001:db8::1]:3128", "[2001:db8::1]:3128", False),
        ("10.0.0.1:8080", "10.0.0.1:8080", False),
    ],
)
def test_a_proxys_url_is_read(url: str, shown: str, tls: bool) -> None:
    proxy = ForwardProxy.parse(url, NAME)
    assert str(proxy) == f"{shown} (HTTPS_PROXY)"
    assert proxy.tls == tls


@pytest.mark.parametrize(
    ("user", "credentials"),
    [
        ("me:secret", "me:secret"),
        ("me:p%40ss%2Fw%25", "me:p@ss/w%"),
        ("me:p@ss", "me:p@ss"),
        ("me:with:colons", "me:with:colons"),
        ("me", "me:"),
        ("dom%5Cme:%C3%A4", "dom\\me:\N{LATIN SMALL LETTER A WITH DIAERESIS}"),
    ],
)
def test_credentials_of_the_url_are_sent_to_the_proxy_and_not_shown(user: str, credentials: str) -> None:
    proxy = ForwardProxy.parse(f"http://{user}@proxy.example:3128", NAME)
    encoded = base64.b64encode(credentials.encode()).decode()
    assert proxy.connect_request("api.example", 443) == (
        b"CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n"
        + f"Proxy-Authorization: Basic {encoded}\r\n\r\n".encode()
    )
    for shown in (str(proxy), repr(proxy)):
        assert encoded not in shown
        assert user not in shown


def test_a_tunnel_to_an_ipv6_address_is_asked_for_in_brackets() -> None:
    request = ForwardProxy.parse("http://proxy.example", NAME).connect_request("2001:db8::1", 443)
    assert request == b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("socks5://hush@proxy.example:1080", "must begin with http:// or https://"),
        ("socks5h://proxy.example:1080", "must begin with http:// or https://"),
        ("ftp://proxy.example", "must begin with http:// or https://"),
        ("http://", "with the proxy's host"),
        ("http://:3128", "with the proxy's host"),
        ("http://hush:hush@:3128", "with the proxy's host"),
        ("http://pro!xy:3128", "with the proxy's host"),
        ("http://proxy.example:0", "must be the URL of a proxy"),
        ("http://proxy.example:99999", "must be the URL of a proxy"),
        ("http://proxy.example:hush", "must be the URL of a proxy"),
        ("http://me:hu/sh@proxy.example:3128", "must be the URL of a proxy"),
        ("http://me:1/hush@proxy.example:3128", "must end after the proxy's port"),
        ("http://me:1#hush@proxy.example:3128", "must end after the proxy's port"),
        ("http://proxy.example:3128?hush", "must end after the proxy's port"),
        ("http://proxy.example:3128/hush", "must end after the proxy's port"),
        ("http://hush hush@proxy.example", "must be the URL of a proxy"),
        ("http://[hush:3128", "must be the URL of a proxy"),
    ],
)
def test_a_text_that_is_no_proxys_url_is_rejected_without_quoting_it(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        ForwardProxy.parse(url, NAME)
    assert "hush" not in str(caught.value)


COVERED = [
    ("*", "api.example", 443),
    ("other.example,*", "10.0.0.1", 80),
    ("api.example", "api.example", 443),
    ("api.example", "API.example", 443),
    ("API.EXAMPLE.", "api.example.", 443),
    ("example", "api.example", 443),
    (".example", "api.example", 443),
    (".api.example", "api.example", 443),
    ("*.example", "deep.api.example", 443),
    ("api.example:443", "api.example", 443),
    (" other.example , api.example ", "api.example", 443),
    ("other.example api.example", "api.example", 443),
    ("10.1.2.3", "10.1.2.3", 443),
    ("10.1.2.3:443", "10.1.2.3", 443),
    ("10.1.0.0/16", "10.1.2.3", 443),
    ("10.1.2.3/16", "10.1.9.9", 443),
    ("10.0.0.0/8", "::ffff:10.1.2.3", 443),
    ("2001:db8::1", "2001:db8::1", 443),
    ("[2001:db8::1]", "2001:db8:0:0::1", 443),
    ("[2001:db8::1]:443", "2001:db8::1", 443),
    ("2001:db8::/32", "2001:db8::1", 443),
]

NOT_COVERED = [
    ("", "api.example", 443),
    (",, ,", "api.example", 443),
    ("pi.example", "api.example", 443),
    ("api.example", "example", 443),
    ("api.example:8443", "api.example", 443),
    ("10.1.2.3:80", "10.1.2.3", 443),
    ("10.1.0.0/16", "10.2.0.1", 443),
    ("2.3", "10.1.2.3", 443),
    ("10.0.0.0/8", "api.example", 443),
    ("2001:db8::/32", "2001:db9::1", 443),
    ("https://api.example", "api.example", 443),
]


@pytest.mark.parametrize(("text", "host", "port"), COVERED)
def test_an_exception_covers_its_hosts_and_ports(text: str, host: str, port: int) -> None:
    assert Exceptions(text).cover(host, port)


@pytest.mark.parametrize(("text", "host", "port"), NOT_COVERED)
def test_an_exception_covers_no_other_hosts_and_ports(text: str, host: str, port: int) -> None:
    assert not Exceptions(text).cover(host, port)


def test_entries_that_cannot_be_read_are_counted_and_have_no_effect() -> None:
    exceptions = Exceptions("localhost,169.254/16,api.example,<local>,192.168.*,[::1")
    assert exceptions.unread == [2, 4, 5, 6]
    assert exceptions.cover("api.example", 443)
    assert not exceptions.cover("192.168.0.1", 443)


def ways(no_proxy: str = "") -> Ways:
    https, http = (ForwardProxy.parse(f"http://{name}:1", name) for name in ("for-https", "for-http"))
    return Ways(https, http, Exceptions(no_proxy))


def test_each_kind_of_upstream_has_its_proxy() -> None:
    assert str(ways().to("api.example", 443, tls=True)) == "for-https:1 (for-https)"
    assert str(ways().to("api.example", 80, tls=False)) == "for-http:1 (for-http)"
    assert ways("api.example").to("api.example", 443, tls=True) is None
    assert Ways(None, None, Exceptions("")).to("api.example", 443, tls=True) is None


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST.",
        "api.localhost",
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "::ffff:127.0.0.1",
        "127.1",
        "0x7f000001",
        "0.0.0.0",  # noqa: S104 - nothing is bound
        "::",
    ],
)
def test_loopback_is_always_reached_directly(host: str) -> None:
    assert ways().to(host, 443, tls=True) is None


@pytest.mark.parametrize("host", ["localhost.example", "notlocalhost", "128.0.0.1", "::2", "128.1", "0x80000001"])
def test_other_hosts_are_not_mistaken_for_loopback(host: str) -> None:
    assert ways().to(host, 443, tls=True) is not None
