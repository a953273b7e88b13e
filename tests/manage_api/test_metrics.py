import itertools
import shutil
import subprocess
import uuid
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from support.metrics import Samples, by_name, sample, samples_of
from support.stores.stores import path_of

from store import clock
from store.clock import DAY
from store.errors import TokenRefused
from store.ledger.rollups import AMOUNTS, KEY
from store.management.projects import Projects
from store.metrics.figures import LAST, LATENCIES, SHORT, SUM
from store.metrics.process_figures import ENDED, Snapshot
from store.store import Store
from store.version import __version__

PROJECTS, MODELS, TOKENS = 200, 50, 10_000
MOST_SERIES = 20_000
CODES = sorted({error.code for error in TokenRefused.__subclasses__()})
DAYS = [clock.now() // DAY * DAY - days * DAY for days in range(2)]


@pytest.fixture
def scrape(client: FlaskClient) -> Callable[[], Samples]:
    """Return a function that reads the metrics: by name and labels."""

    def scraped() -> Samples:
        answer = client.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return by_name(answer.text)

    return scraped


def add_sums(store: Store, pairs: list[tuple[str, str, str]], start: int, **amounts: int) -> None:
    """Add sums of projects, tokens and models to a day."""
    places = ", ".join("?" * len([*KEY, *AMOUNTS]))
    values = [amounts.get(name, 0) for name in AMOUNTS]
    with store.database.write():
        store.database.engine.connection().executemany(
            f"INSERT INTO daily_usage ({', '.join([*KEY, *AMOUNTS])}) VALUES ({places})",  # noqa: S608
            [(start, *pair, "/v1/chat/completions", *values) for pair in pairs],
        )


def add_refusals(store: Store, projects: list[str]) -> None:
    """Add one refusal of each code to each project."""
    with store.database.write():
        store.database.engine.connection().executemany(
            "INSERT INTO refusal (id, started_at, project_id, token_id, method, path, endpoint, status, code, repeats)"
            " VALUES (?, ?, ?, '', '', '', '', 403, ?, 2)",
            [(str(uuid.uuid4()), clock.now(), *pair) for pair in itertools.product(projects, CODES)],
        )


def add_process(store: Store, name: str, snapshot: Snapshot) -> None:
    with store.database.write():
        store.database.run("INSERT INTO process_figures VALUES (?, ?)", (name, str(snapshot)))


def test_metrics_need_the_management_token(anyone: FlaskClient) -> None:
    for method in ("GET", "HEAD", "POST"):
        assert anyone.open("/metrics", method=method).status_code == 401


def test_metrics_take_no_parameters(client: FlaskClient) -> None:
    answer = client.get("/metrics?name=cost")
    assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_request")


def test_counters_are_the_sums_of_the_ledger(store: Store, scrape: Callable[[], Samples]) -> None:
    project = Projects(store).create('Search "one"\n', "sk-first").id
    for start in DAYS:
        add_sums(store, [(project, "t1", "m"), (project, "t2", "m"), (project, "t1", "")], start, requests=2)
        add_sums(store, [(project, "t3", "n")], start, requests=1, input_tokens=5, output_tokens=7, cost=10**12 + 1)
    add_refusals(store, [project])
    found = scrape()
    assert found[sample("requests_total", project_id=project)] == 14
    assert found[sample("tokens_total", project_id=project, model="n", type="input")] == 10
    assert found[sample("tokens_total", project_id=project, model="n", type="output")] == 14
    assert found[sample("cost_usd_total", project_id=project, model="n")] == 2.000000000002
    assert found[sample("cost_usd_total", project_id=project, model="")] == 0
    assert found[sample("refusals_total", project_id=project, code="token_expired")] == 2
    assert found[sample("project_info", project_id=project, name='Search "one"\n')] == 1


def test_the_figures_of_all_processes_are_added_up(store: Store, scrape: Callable[[], Samples]) -> None:
    shared = {"request": {"/v1/models 2xx": {"0.05": 1.0, "0.07": 1.0, LAST: 2.0, SUM: 1300.5}}}
    one = Snapshot(shared | {"errors": {"invalid_token": {"": 3.0}}}, {"in_flight": 2, "queue slots": 1}, __version__)
    two = Snapshot(shared | {"upstream_errors": {"cut": {"": 1.0}}}, {"in_flight": 5}, __version__)
    for name, snapshot in (("one", one), ("two", two), (ENDED, Snapshot(shared))):
        add_process(store, name, snapshot)
    found = scrape()
    of_models = {"endpoint": "/v1/models", "status": "2xx"}
    buckets = {
        bound: found[sample("request_duration_seconds_bucket", le=bound, **of_models)] for bound in ("0.05", "0.1")
    }
    assert buckets == {"0.05": 3, "0.1": 6}  # 0.07 is a bound of another version
    assert found[sample("request_duration_seconds_bucket", le=LAST, **of_models)] == 12
    assert found[sample("request_duration_seconds_count", **of_models)] == 12
    assert found[sample("request_duration_seconds_sum", **of_models)] == 3901.5
    assert found[sample("errors_total", code="invalid_token")] == 3
    assert found[sample("upstream_errors_total", kind="cut")] == 1
    assert found[sample("upstream_errors_total", kind="timeout")] == 0
    assert found[sample("requests_in_flight")] == 7
    assert found[sample("queue_length", queue="slots")] == 1
    assert found[sample("processes", version=__version__)] == 2
    assert found[sample("build_info", component="proxy", version=__version__)] == 1


def test_a_store_that_nothing_has_used_has_metrics(store: Store, scrape: Callable[[], Samples]) -> None:
    Projects(store).create("One", "sk-first")
    found = scrape()
    assert found[sample("processes", version=__version__)] == 0
    log = path_of(store).with_name(f"{path_of(store).name}-wal")
    assert found[sample("sqlite_wal_bytes")] == log.stat().st_size > 0


def test_a_name_with_the_form_of_a_key_is_masked(store: Store, client: FlaskClient) -> None:
    project = Projects(store).create("sk-pasted-by-mistake-0123456789", "sk-first").id
    add_sums(store, [(project, "t", "m")], DAYS[0], requests=1)
    text = client.get("/metrics").text
    assert 'name="***"' in text
    assert "pasted" not in text


def test_series_are_bounded(store: Store, client: FlaskClient) -> None:
    projects = [str(uuid.uuid4()) for _ in range(PROJECTS)]
    tokens = list(range(TOKENS))
    pairs = [
        (projects[token % PROJECTS], str(token), f"model-{model}")
        for model in range(MODELS)
        for token in tokens[model * PROJECTS : (model + 1) * PROJECTS]
    ]
    assert len({pair[1] for pair in pairs}) == len({(project, model) for project, _, model in pairs}) == TOKENS
    add_sums(store, pairs, DAYS[0], requests=1, input_tokens=2, output_tokens=3, cost=4)
    add_refusals(store, projects)
    with store.database.write():
        for project in projects:
            store.database.run("INSERT INTO former_project VALUES (?, ?)", (project, f"Project {project}"))
    endpoints = [f"/v1/{number}" for number in range(22)]
    classes = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
    whole = dict.fromkeys([*map(str, LATENCIES), LAST, SUM], 1.0)
    short = dict.fromkeys([*map(str, SHORT), LAST, SUM], 1.0)
    latencies = dict.fromkeys(
        [f"{endpoint} {status}" for endpoint, status in itertools.product(endpoints, classes)], whole
    )
    added = dict.fromkeys(endpoints, short)
    figures = {"request": latencies, "first_byte": latencies, "added": added, "admission": {"": short}}
    add_process(store, "one", Snapshot(figures, {}, __version__))
    found = samples_of(client.get("/metrics").text)
    print(len(found), "series")
    assert len(found) <= MOST_SERIES
    summed = {
        name: sum(each.value for each in found if each.name == f"llm_proxy_{name}_total")
        for name in ("requests", "tokens", "cost_usd", "refusals")
    }
    assert summed["requests"] == TOKENS
    assert summed["tokens"] == 5 * TOKENS
    assert round(summed["cost_usd"] * 10**12) == 4 * TOKENS
    assert summed["refusals"] == 2 * PROJECTS * len(CODES)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus is not installed")
def test_promtool_has_no_complaint(store: Store, client: FlaskClient, project_id: str) -> None:
    add_sums(store, [(project_id, "t", "m")], DAYS[0], requests=1)
    add_refusals(store, [project_id])
    figures = {
        "request": {"/v1/models 2xx": {"0.05": 1.0, SUM: 0.01}},
        "added": {"/v1/models": {"0.001": 1.0, SUM: 0.0005}},
        "errors": {"invalid_token": {"": 1.0}},
    }
    add_process(store, "one", Snapshot(figures, {}, __version__))
    text = client.get("/metrics").text
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)  # noqa: S607
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
