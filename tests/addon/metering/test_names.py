import pytest

from addon.metering.names import MAX_MODEL, may_think, model_name, tier_name


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


@pytest.mark.parametrize("tier", [None, "default", "auto", "standard", "on_demand", "", 1, "A b", "x" * 33, "flex\n"])
def test_the_usual_tier_and_invalid_ones_are_dropped(tier: object) -> None:
    assert tier_name(tier) is None


@pytest.mark.parametrize(
    "model",
    ["gpt-4o-mini", "gpt-4.1-2025-04-14", "ft:gpt-4.1-2025-04-14:a::b", "openai/gpt-4o", "claude-3-5-haiku-latest"],
)
def test_models_that_show_all_that_they_produce_are_known(model: str) -> None:
    assert not may_think(model)


@pytest.mark.parametrize(
    "model", ["o3", "gpt-5", "gpt-oss-120b", "grok-4", "gemini-2.5-pro", "claude-sonnet-4-5", "new-model", "", None]
)
def test_any_other_model_may_think(model: str | None) -> None:
    assert may_think(model)
