import json

import pytest

from store.policies.policy import Models, policy


def test_no_text_allows_everything() -> None:
    anything = policy(None, None, None)
    assert (anything.models, anything.endpoints, anything.networks) == (None, None, None)
    assert anything.allows_client("192.0.2.1")


def test_an_empty_list_allows_nothing() -> None:
    nothing = policy("[]", "[]", "[]")
    assert (nothing.models, nothing.endpoints, nothing.networks) == (Models(frozenset()), (), ())
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


@pytest.mark.parametrize(
    ("entry", "model", "is_allowed"),
    [
        ("gpt-4o*", "gpt-4o", True),
        ("gpt-4o*", "gpt-4o-mini-2024-07-18", True),
        ("gpt-4o*", "gpt-4", False),
        ("gpt-4o*", "GPT-4o", False),
        ("gpt-4o*", "openai/gpt-4o", False),
        ("*/gpt-4o", "openai/gpt-4o", True),
        ("ft:gpt-4o*:acme:*", "ft:gpt-4o-2024-08-06:acme:desk:1", True),
        ("ft:gpt-4o*:acme:*", "ft:gpt-4o-2024-08-06:other:desk:1", False),
        ("gpt-4?", "gpt-4o", False),
        ("gpt-4[o]", "gpt-4o", False),
        ("gpt.4o*", "gpt-4o", False),
        ("*", "any", True),
    ],
)
def test_a_star_in_a_model_stands_for_any_characters_and_nothing_else_is_special(
    entry: str, model: str, is_allowed: bool
) -> None:
    models = policy(json.dumps(["other", entry]), None, None).models
    assert models is not None
    assert (model in models) is is_allowed
    assert "other" in models
