"""The figures, tables and plot of the benchmark; its run is tested in functional/, beside other processes."""

import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from benchmarks.bench import plot, report
from benchmarks.bench.figures import AT_THE_END, DIRECT, EVENTS, LAYERS, MEMORY, PATHS, TWO_WORKERS, Results, load_at
from benchmarks.bench.load import Answer, percentiles
from benchmarks.bench.machine import version_of
from benchmarks.bench.messages import ANSWER, STREAM_HEAD, end_of_stream, event

DOCS = Path(__file__).parents[1] / "docs"
LOAD = load_at(32)


@pytest.fixture
def results() -> Results:
    """Three rounds, each slower than the one before; the last was disturbed."""
    results = Results({"date": "2026-11-01", "cores": "2"})
    for reference, ours in ((1.0, 2.0), (2.0, 3.0), (4.0, 16.0)):
        for name, cpu in (("nginx", 0.01), ("mitmdump", reference), ("launcher-sqlite", ours)):
            figures = {"per_second": 1000 / cpu, "p50_ms": cpu, "p99_ms": 2 * cpu, "load": 0.1, "upstream": 0.05}
            results.add(LOAD, name, {"cpu_ms": cpu, "others": 0.01, **figures})
    return results


def test_a_median_is_of_the_rounds(results: Results) -> None:
    assert results.median(LOAD, "launcher-sqlite", "cpu_ms") == 3.0
    assert results.median(LOAD, "launcher-sqlite", "unknown") is None
    assert results.median(EVENTS, "launcher-sqlite", "cpu_ms") is None


def test_a_ratio_is_within_a_round(results: Results) -> None:
    """The ratios are 2, 1.5 and 4; the ratio of the medians would be 1.5."""
    assert results.ratio(LOAD, "launcher-sqlite", "cpu_ms") == 2.0
    assert results.ratio(LOAD, "mitmdump", "cpu_ms") == 1.0


def test_a_ratio_may_be_to_another_contestant(results: Results) -> None:
    assert results.ratio(LOAD, "mitmdump", "cpu_ms", "launcher-sqlite") == 0.5


def test_there_is_no_ratio_without_the_reference(results: Results) -> None:
    del results.rounds[LOAD]["mitmdump"]
    assert results.ratio(LOAD, "launcher-sqlite", "cpu_ms") is None


def test_the_added_time_is_measured_within_a_round(results: Results) -> None:
    """It is 3, 5 and 1."""
    for direct, ours in ((1, 4), (1, 6), (9, 10)):
        results.add(EVENTS, DIRECT, {"first_p50_ms": direct})
        results.add(EVENTS, "launcher-sqlite", {"first_p50_ms": ours})
    assert results.added(EVENTS, "launcher-sqlite", "first_p50_ms") == 3
    assert results.contestants(EVENTS) == ["launcher-sqlite"]


def test_results_are_read_as_they_were_written(results: Results) -> None:
    text = results.to_json()
    assert Results.from_json(text) == results
    assert len([line for line in text.splitlines() if '"cpu_ms"' in line]) == 3


def test_a_table_has_the_medians_and_ratios_of_each_contestant(results: Results) -> None:
    text = report.tables(results)
    assert (
        "| mitmdump | `mitmdump -q`, no addon: the reference | 2.00 | 1.00 | 500 | 1.00 | 2.0 | 4.0 | 10% | 5% |"
        in text
    )
    assert "| launcher-sqlite | one worker of `./run.sh`, on SQLite | 3.00 | 2.00 | 333 |" in text


def test_the_ratios_of_interest_are_in_one_table(results: Results) -> None:
    for name, cpu, per_second in (("launcher-sqlite", 50, 1000), (LAYERS, 100, 500), (TWO_WORKERS, 50, 1800)):
        results.add(EVENTS, name, {"event_cpu_us": cpu})
        results.add(load_at(256), name, {"per_second": per_second})
    text = report.tables(results)
    assert "| CPU of a request, 32 connections, / mitmdump | 2.00 | - |" in text
    assert "| CPU of a streamed event, / layers | 0.50 | 1.00 |" in text
    assert "| requests a second, 256 connections, 2-workers-sqlite / launcher-sqlite | 1.80 | - |" in text


def test_the_share_of_the_plain_path_is_reported(results: Results) -> None:
    results.add(PATHS, "launcher-sqlite", {"requests": 2000, "plain_requests": 1900})
    assert "| launcher-sqlite | 2,000 | 95% |" in report.tables(results)


def test_memory_has_a_dash_where_it_was_not_watched(results: Results) -> None:
    results.add(MEMORY, "nginx", {AT_THE_END: 6})
    results.add(MEMORY, "mitmdump", {AT_THE_END: 80})
    results.add(MEMORY, "mitmdump", {"1,000": 81})
    text = report.tables(results)
    assert "| nginx | 6 | - |" in text
    assert "| mitmdump | 80 | 81 |" in text


def test_a_busy_machine_is_reported(results: Results) -> None:
    assert "busy" not in report.tables(results)
    results.add(LOAD, "mitmdump", {"others": 0.25})
    assert "in 1 of 10 measurements others took more than 10% of it, up to 25%" in report.tables(results)


def test_notes_are_reported(results: Results) -> None:
    results.notes.append("nginx is not installed")
    assert "\nnginx is not installed\n" in report.tables(results)


def test_the_tables_replace_the_earlier_ones() -> None:
    page = "before\n<!-- figures: begin -->\nold\n<!-- figures: end -->\nafter\n"
    once = report.put_into(page, r"new \1")
    assert once == "before\n<!-- figures: begin -->\n\nnew \\1\n\n<!-- figures: end -->\nafter\n"
    assert report.put_into(once, r"new \1") == once
    with pytest.raises(ValueError, match="no marks"):
        report.put_into("a page", "new")


def test_the_plot_is_xml_and_has_all_figures(results: Results) -> None:
    root = ET.fromstring(plot.draw(results))  # noqa: S314 - made here
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text in {"0.01", "2.00", "3.00", "100,000", "500", "333"}] == [
        *("0.01", "2.00", "3.00"),
        *("100,000", "500", "333"),
    ]


def test_the_bar_of_the_limit_is_cut(results: Results) -> None:
    """Its 100,000 requests a second would leave nothing to be seen of the others' 500."""
    root = ET.fromstring(plot.draw(results))  # noqa: S314 - made here
    bars = [float(bar.attrib["width"]) for bar in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert len(bars) == 7
    assert max(bars) == 420
    assert all(0 <= bar <= 420 for bar in bars)


def test_a_plot_without_figures_is_xml() -> None:
    ET.fromstring(plot.draw(Results({})))  # noqa: S314 - made here


def test_percentiles_are_in_milliseconds() -> None:
    found = percentiles("first_", [millisecond * 1_000_000 for millisecond in range(1, 102)])
    assert found == {"first_p50_ms": 51.0, "first_p99_ms": 100.0}
    assert percentiles("", [3_000_000]) == {"p50_ms": 3.0, "p99_ms": 3.0}
    with pytest.raises(ValueError, match="nothing"):
        percentiles("", [])


@pytest.mark.parametrize("step", [1, 2, 7, 1000, 100_000])
def test_an_answer_is_read_in_any_pieces(step: int) -> None:
    answer, pieces = Answer(), [ANSWER[start : start + step] for start in range(0, len(ANSWER), step)]
    assert [answer.feed(piece) for piece in pieces] == [*[False] * (len(pieces) - 1), True]
    assert answer.status == 200


@pytest.mark.parametrize("step", [1, 2, 7, 1000, 100_000])
def test_a_stream_is_read_in_any_pieces(step: int) -> None:
    whole = STREAM_HEAD + event(11) + event(22) + end_of_stream()
    answer, stamps, ends = Answer(), [], []
    for start in range(0, len(whole), step):
        ends.append(answer.feed(whole[start : start + step]))
        stamps += answer.stamps()
    assert stamps == [11, 22]
    assert ends == [*[False] * (len(ends) - 1), True]


def test_the_version_of_a_program_is_read_from_its_output() -> None:
    assert version_of(sys.executable, "--version") == ".".join(map(str, sys.version_info[:3]))


def test_the_page_and_the_plot_show_the_results() -> None:
    page, results = (DOCS / "benchmarks.md").read_text(), Results.from_json((DOCS / "benchmarks.json").read_text())
    assert report.put_into(page, report.tables(results)) == page
    assert (DOCS / "benchmarks.svg").read_text() == plot.draw(results)
