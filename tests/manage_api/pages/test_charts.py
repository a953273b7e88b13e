import re
from collections.abc import Iterator

import flask
import pytest

from manage_api.pages import charts, rendering
from store.clock import DAY, month_of, to_date
from store.ledger.usage import COST_UNIT


@pytest.fixture(autouse=True)
def _request(app: flask.Flask) -> Iterator[None]:
    with app.test_request_context("/"):
        yield


def heights(chart: str) -> list[float]:
    return [float(height) for height in re.findall(r'class="series-\d" [^>]*height="([\d.]+)"/></g>', chart)]


def test_the_highest_bar_is_as_high_as_the_chart() -> None:
    chart = charts.bars("Requests", ["Mon", "Tue", "Wed"], {"": [1000, 500, 250]})
    assert heights(chart) == [100, 50, 25]
    assert re.findall("<title>(.*?)</title>", chart) == ["Mon: 1,000", "Tue: 500", "Wed: 250"]
    assert '<data value="1000">1,000</data>' in chart


def test_series_stand_on_each_other() -> None:
    chart = charts.bars("Requests", ["Mon"], {"good": [30], "bad": [10]})
    assert re.findall(r'class="series-(\d)" x="[\d.]+" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', chart) == [
        ("1", "25.0", "75.0"),
        ("2", "0.0", "25.0"),
    ]
    assert "<title>Mon: 30 good, 10 bad</title>" in chart


def test_values_are_written_as_asked() -> None:
    chart = charts.bars("Cost", ["Mon", "Tue"], {"": [COST_UNIT * 3 // 2, 1]}, rendering.dollars)
    assert re.findall("<title>(.*?)</title>", chart) == ["Mon: $1.50", "Tue: &lt; $0.0001"]


@pytest.mark.parametrize("values", [[], [0, 0]])
def test_nothing_has_no_bars(values: list[int]) -> None:
    chart = charts.bars("Requests", ["Mon", "Tue"][: len(values)], {"": values})
    assert heights(chart) == []
    assert "<svg" in chart


def test_words_of_others_are_text() -> None:
    chart = charts.bars('"><script>a', ['"><script>b'], {'"><script>c': [1], '"><script>d': [2]})
    assert "<script" not in chart
    assert re.findall("&#34;&gt;&lt;script&gt;([a-d])", chart) == [*"acdabbbcdbb"]


def test_a_chart_has_each_month_between_two() -> None:
    found = charts.months(month_of(20_000 * DAY), month_of(20_150 * DAY))
    assert [to_date(month) for month in found] == [
        *("2024-10-01", "2024-11-01", "2024-12-01", "2025-01-01", "2025-02-01", "2025-03-01")
    ]


def test_a_chart_has_each_step_between_two() -> None:
    assert [*charts.steps(0, 2 * DAY, DAY)] == [0, DAY, 2 * DAY]
