import pytest

from addon.metering.names import MAX_MODEL, model_name, tier_name


@pytest.mark.parametrize("name", ["gpt-4o-mini", "ft:gpt-4o:org::id", "org/name", "模型", "m" * MAX_MODEL])
def test_a_valid_model_is_kept(name: str) -> None:
    assert model_name(name) == name


def test_blanks_around_a_model_are_removed() -> None:
    assert model_name(" gpt-4o ") == "gpt-4o"


@pytest.mark.parametrize(
    "name", [None, 4, ["m"], "", "  ", "a\x00b", "a\nb", "a\x1b[31m", "\ud800", "a\u2028b", "m" * (MAX_MODEL + 1)]
)
def test_an_invalid_model_is_dropped(name: object) -> None:
    assert model_name(name) is None


@pytest.mark.parametrize("tier", ["flex", "priority", "batch", "scale"])
def test_a_tier_with_its_own_prices_is_kept(tier: str) -> None:
    assert tier_name(tier) == tier


@pytest.mark.parametrize("tier", [None, "default", "auto", "", 1, "A b", "x" * 33, "flex\n"])
def test_the_usual_tier_and_invalid_ones_are_dropped(tier: object) -> None:
    assert tier_name(tier) is None
