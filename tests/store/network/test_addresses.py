import pytest

from store.network.addresses import hostport, plain


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::1", "::1"),
        ("::ffff:nonsense", "::ffff:nonsense"),
    ],
)
def test_a_mapped_address_is_shown_as_ipv4(host: str, shown: str) -> None:
    assert plain(host) == shown


def test_an_ipv6_address_with_a_port_has_brackets() -> None:
    assert hostport("::1", 80) == "[::1]:80"
    assert hostport("host", 80) == "host:80"
