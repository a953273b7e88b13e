import pytest
from hypothesis import given
from hypothesis import strategies as st

from manage_api import words
from store.clock import DAY, HOUR, MINUTE

PER = st.sampled_from(["second", "minute", "hour", "day"])
PERIOD = st.sampled_from(["day", "week", "month", "total"])


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("60 requests a minute", {"requests": 60, "per": "minute"}),
        ("60/minute", {"requests": 60, "per": "minute"}),
        ("60 / minute", {"requests": 60, "per": "minute"}),
        ("1 request per second", {"requests": 1, "per": "second"}),
        ("1 REQUEST EACH DAY", {"requests": 1, "per": "day"}),
        ("100,000 tokens an hour", {"tokens": 100_000, "per": "hour"}),
        ("100000tokens/hour", {"tokens": 100_000, "per": "hour"}),
        (" 5 tokens in day ", {"tokens": 5, "per": "day"}),
        ("1 request a fortnight", {"requests": 1, "per": "fortnight"}),  # the rules of the API tell which there are
    ],
)
def test_windows_are_read(text: str, window: dict[str, object]) -> None:
    assert words.read_window(text) == window


@pytest.mark.parametrize(
    "text",
    [
        "",
        "60",
        "minute",
        "60 a",
        "requests a minute",
        "-1/minute",
        "1.5/minute",
        "60 cats a minute",
        "1/minute, 2/hour",
    ],
)
def test_other_windows_are_not_read(text: str) -> None:
    with pytest.raises(ValueError, match="another form"):
        words.read_window(text)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("$100 a month", {"usd": "100", "per": "month"}),
        ("100/month", {"usd": "100", "per": "month"}),
        ("2.50 USD per day", {"usd": "2.50", "per": "day"}),
        ("1,000.50 dollars a week", {"usd": "1000.50", "per": "week"}),
        ("$5 in total", {"usd": "5", "per": "total"}),
        ("usd 5/total", {"usd": "5", "per": "total"}),
    ],
)
def test_budgets_are_read(text: str, budget: dict[str, object]) -> None:
    assert words.read_budget(text) == budget


@pytest.mark.parametrize(
    "text", ["", "$", "$ a month", "€5 a month", "-5/month", "5", "five a month", "5 a month or so"]
)
def test_other_budgets_are_not_read(text: str) -> None:
    with pytest.raises(ValueError, match="another form"):
        words.read_budget(text)


@given(st.integers(1, 10**12), st.sampled_from(["requests", "tokens"]), PER)
def test_windows_in_words_are_read_back(number: int, counted: str, per: str) -> None:
    window = {counted: number, "per": per}
    (text,) = words.windows([window])
    assert words.read_window(text) == window


@given(st.decimals(0, 10**6, places=12, allow_nan=False), PERIOD)
def test_budgets_in_words_are_read_back(usd: object, per: str) -> None:
    budget = {"usd": f"{usd:f}", "per": per}
    (text,) = words.budgets([budget])
    assert words.read_budget(text) == budget


def test_no_limits_have_no_words() -> None:
    assert words.windows(None) == words.windows([]) == words.budgets(None) == words.budgets([]) == []


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("7d", 7 * DAY),
        ("30 days", 30 * DAY),
        ("1 day", DAY),
        ("12h", 12 * HOUR),
        ("12 Hours", 12 * HOUR),
        ("30m", 30 * MINUTE),
        ("30 min", 30 * MINUTE),
        ("1 minute", MINUTE),
        *((text, None) for text in ("", "0d", "7", "d", "-1d", "1.5h", "7 weeks", "1d 2h", "7days ago", "9" * 7 + "d")),
    ],
)
def test_durations(text: str, duration: int | None) -> None:
    assert words.read_duration(text) == duration


@pytest.mark.parametrize(
    ("per", "text"),
    [("minute", "a minute"), ("hour", "an hour"), ("month", "a month"), ("total", "in total")],
)
def test_periods(per: str, text: str) -> None:
    assert words.each(per) == text


def test_sums_that_are_nothing_have_no_title() -> None:
    shown = words.titles_of_sums({**dict.fromkeys(words.SUMS, 0), "images": 2, "told_cost_usd": None})
    assert [*shown] == ["requests", "input_tokens", "output_tokens", "images", "cost_usd"]
