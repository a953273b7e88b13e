import pytest

from store.network.client_address import client_address, parse_networks

TRUSTED = parse_networks("10.0.0.0/8, 192.168.1.2, fd00::/8")


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.7", None, "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),  # it is not trusted
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.7", "203.0.113.7"),  # addresses that the client sent itself come first
        ("10.0.0.1", "203.0.113.7,10.0.0.2 , 192.168.1.2", "203.0.113.7"),
        ("10.0.0.1", "203.0.113.7, 192.168.1.3", "192.168.1.3"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "_hidden", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7,, 10.0.0.2, ", "203.0.113.7"),
        ("10.0.0.1", " , ", "10.0.0.1"),
        ("10.0.0.1", "[2001:db8::1]x", "10.0.0.1"),
        ("10.0.0.1", "fe80::1%\udcff", "10.0.0.1"),  # a zone is any text
        ("10.0.0.1", "fe80::1%" + "x" * 10_000, "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7:4711", "203.0.113.7"),
        ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("10.0.0.1", "2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("fd00::1", "::ffff:203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", None, "203.0.113.7"),
        ("fe80::1%eth0", None, "fe80::1%eth0"),
        ("a socket", "203.0.113.7", "a socket"),
        ("10.0.0.1", "203.0.113.7\r\nforged: line", "10.0.0.1"),
    ],
)
def test_the_client_is_found_behind_trusted_proxies(peer: str, forwarded: str | None, client: str) -> None:
    assert client_address(peer, forwarded, TRUSTED) == client


@pytest.mark.parametrize("peer", ["10.0.0.1", "::1"])
def test_without_trusted_proxies_the_peer_is_the_client(peer: str) -> None:
    assert client_address(peer, "203.0.113.7", ()) == peer


def test_networks_mapped_into_ipv6_match_ipv4() -> None:
    assert client_address("10.0.0.1", "203.0.113.7", parse_networks("::ffff:10.0.0.0/104")) == "203.0.113.7"


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_text_has_no_networks(text: str) -> None:
    assert parse_networks(text) == ()


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "proxy.example", "10.0.0.1,", ",", "10.0.0.1 10.0.0.2"])
def test_a_text_that_is_no_network_is_rejected_without_quoting_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be addresses and networks such as") as caught:
        parse_networks(text)
    assert "proxy.example" not in str(caught.value)
