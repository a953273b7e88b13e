from collections.abc import Callable

import pytest

from addon.remembered import remembered


@pytest.fixture
def calls() -> list[str]:
    """The texts that `upper` was called with, in order."""
    return []


@pytest.fixture
def upper(calls: list[str]) -> Callable[[str], str]:
    @remembered
    def upper(text: str) -> str:
        calls.append(text)
        return text.upper()

    return upper


def test_a_short_text_is_asked_for_once(upper: Callable[[str], str], calls: list[str]) -> None:
    assert [upper("a"), upper("b"), upper("a")] == ["A", "B", "A"]
    assert calls == ["a", "b"]


def test_a_long_text_is_not_remembered(upper: Callable[[str], str], calls: list[str]) -> None:
    for length in (256, 256, 257, 257):
        assert upper("a" * length) == "A" * length
    assert list(map(len, calls)) == [256, 257, 257]


def test_what_is_raised_is_not_remembered() -> None:
    @remembered
    def number(text: str) -> int:
        return int(text)

    for _ in range(2):
        with pytest.raises(ValueError, match="invalid"):
            number("a")


def test_only_so_many_are_remembered(upper: Callable[[str], str], calls: list[str]) -> None:
    texts = [str(number) for number in range(1025)]
    assert list(map(upper, texts)) == texts
    assert (upper("1024"), upper("0")) == ("1024", "0")
    assert calls == [*texts, "0"]
