from store.metrics.figures import LAST, LATENCIES, SUM, Figures, Histogram, plus


def test_a_duration_is_counted_in_the_bucket_of_the_next_bound() -> None:
    histogram = Histogram(LATENCIES)
    for seconds in (0.0, 0.05, 0.0625, 600.0, 601.0):
        histogram.add(seconds)
    assert histogram.cells() == {"0.05": 2, "0.1": 1, "600.0": 1, LAST: 1, SUM: 1201.1125}


def test_figures_have_a_plain_form_by_metric_labels_and_bucket() -> None:
    figures = Figures()
    figures.latencies("/v1/models", "2xx").whole.add(0.2)
    figures.latencies("/v1/models", "2xx").whole.add(0.2)
    figures.latencies("/v1/models", "2xx").first_byte.add(0.1)
    figures.latencies("/v1/models", "2xx").added.add(0.001)
    figures.admissions.add(0.25)
    figures.count("errors", "invalid_token")
    figures.count("errors", "invalid_token")
    figures.gauges["in_flight"] = lambda: 3
    assert figures.counts() == {
        "request": {"/v1/models 2xx": {"0.25": 2, SUM: 0.4}},
        "first_byte": {"/v1/models 2xx": {"0.1": 1, SUM: 0.1}},
        "added": {"/v1/models": {"0.001": 1, SUM: 0.001}},
        "admission": {"": {"0.25": 1, SUM: 0.25}},
        "errors": {"invalid_token": {"": 2}},
    }
    assert figures.present() == {"in_flight": 3}


def test_figures_of_processes_with_other_labels_and_buckets_are_added_up() -> None:
    one = {"errors": {"a": {"": 1.0}}, "request": {"x": {"1.0": 2.0, SUM: 1.5}}}
    two = {"errors": {"b": {"": 2.0}}, "request": {"x": {"2.0": 1.0, SUM: 2.0}}}
    both = plus(one, two)
    assert both == {"errors": {"a": {"": 1}, "b": {"": 2}}, "request": {"x": {"1.0": 2, "2.0": 1, SUM: 3.5}}}
    assert plus(both, two, -1) == {
        "errors": {"a": {"": 1}, "b": {"": 0}},
        "request": {"x": {"1.0": 2, "2.0": 0, SUM: 1.5}},
    }
