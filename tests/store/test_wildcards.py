from hypothesis import given
from hypothesis import strategies as st

from store.wildcards import matches

PIECES = st.text("ab*", max_size=8)


def matches_by_definition(pattern: str, text: str) -> bool:
    """Compare as `*` is defined: it stands for any characters, and for none."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(matches_by_definition(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return text[:1] == pattern[0] and matches_by_definition(pattern[1:], text[1:])


@given(PIECES, st.text("ab", max_size=8))
def test_a_star_stands_for_any_characters(pattern: str, text: str) -> None:
    assert matches(pattern, text) == matches_by_definition(pattern, text)


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    assert not matches("/v1/" + "a*" * 250 + "b", "/v1/" + "a" * 60_000)
