import pytest

from manage_api.unknown_names import LONGEST_NAME, MOST_NAMES, complaint

KNOWN = ["is_active", "max_requests", "expires_at", "expires_in_days"]
VALUE = "8f14e45f-ceea-4672-9c6d-4cf0d7a1b5e1"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("max_request", "max_requests"),
        ("maxRequests", "max_requests"),
        ("MAX-REQUESTS", "max_requests"),
        ("max_reqeusts", "max_requests"),
        ("expiresAt", "expires_at"),
        ("expire_in_days", "expires_in_days"),
        ("active", "is_active"),
    ],
)
def test_the_nearest_known_name_is_suggested(name: str, near: str) -> None:
    assert complaint("field", [name], KNOWN) == f"has an unknown field: '{name}' (did you mean '{near}'?)"


@pytest.mark.parametrize("name", ["colour", "", "_", "\u00fc", "limit"])
def test_without_a_near_name_all_known_names_are_listed(name: str) -> None:
    assert complaint("field", [name], KNOWN) == f"has an unknown field: '{name}'; known fields: {', '.join(KNOWN)}"
    assert complaint("parameter", [name], []) == f"has an unknown parameter: '{name}'; known parameters: none"


def test_all_unknown_names_are_listed() -> None:
    text = complaint("parameter", ["colour", "expires", "size"], KNOWN)
    assert text.startswith("has unknown parameters: 'colour', 'expires' (did you mean 'expires_at'?), 'size'; known")


def test_very_many_unknown_names_are_counted() -> None:
    text = complaint("field", [f"x{number}" for number in range(MOST_NAMES + 950)], KNOWN)
    assert f"'x{MOST_NAMES - 1}', and 950 more; known fields: " in text
    assert f"'x{MOST_NAMES}'" not in text


@pytest.mark.parametrize("name", ["x" * 10_000, f"{'x' * (LONGEST_NAME - 10)}{VALUE}{'x' * 100}"])
def test_a_long_name_is_cut(name: str) -> None:
    text = complaint("field", [name], [])
    assert len(text) < LONGEST_NAME + 60
    assert "...'" in text
    assert VALUE[:8] not in text


@pytest.mark.parametrize(
    "name", [VALUE, VALUE.upper(), VALUE.replace("-", ""), f"a{VALUE}b", "sk-proj-abc_DEF-0123456789"]
)
def test_a_secret_sent_as_a_name_is_masked(name: str) -> None:
    text = complaint("parameter", [name], KNOWN)
    assert "***" in text
    assert not any(part in text.lower() for part in ("8f14", "4672", "abc_def", "0123"))


@pytest.mark.parametrize("character", ["\0", "\n", "\r", "\x1b", "\x7f", "\u202e", "\u200b", "\ud800", "\U000e0041"])
def test_unprintable_characters_are_replaced(character: str) -> None:
    assert "'a\ufffdb'" in complaint("field", [f"a{character}b"], [])
