import json

import pytest

from store.policies.policy import policy


def test_no_text_allows_everything() -> None:
    anything = policy(None, None, None)
    assert (anything.models, anything.endpoints, anything.networks) == (None, None, None)
    assert anything.allows_client("192.0.2.1")


def test_an_empty_list_allows_nothing() -> None:
    nothing = policy("[]", "[]", "[]")
    assert (nothing.models, nothing.endpoints, nothing.networks) == (frozenset(), (), ())
    assert not nothing.allows_client("192.0.2.1")


@pytest.mark.parametrize(
    ("client", "is_allowed"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("198.51.100.7", True),
        ("198.51.100.8", False),
        ("2001:db8::5", True),
        ("2001:db9::5", False),
        ("203.0.113.9", True),
        ("localhost", False),
        ("", False),
    ],
)
def test_a_client_is_in_one_of_the_networks(client: str, *, is_allowed: bool) -> None:
    ips = ["10.0.0.0/8", "198.51.100.7", "2001:db8::/32", "::ffff:203.0.113.0/120"]
    assert policy(None, None, json.dumps(ips)).allows_client(client) == is_allowed
