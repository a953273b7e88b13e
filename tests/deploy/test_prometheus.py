"""The files for Prometheus and Grafana, and the page on metrics, name the metrics that there are."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.network.http_engine import DEPLOY
from support.stores.stores import make_settings, opened

from manage_api.app import create_app
from store.metrics.figures import SUM
from store.metrics.process_figures import Snapshot

PAGE = (DEPLOY.parent / "metrics.md").read_text()
CONFIG = DEPLOY / "prometheus.yml"
ALERTS = DEPLOY / "prometheus-alerts.yml"
DASHBOARD = DEPLOY / "grafana-dashboard.json"
EXAMPLES = Path(__file__).with_name("alerts.test.yml")
_METRIC = re.compile(r"\bllm_proxy_\w+")
_LABELS = re.compile(r"(?:by|on|group_left) ?\(([^)]*)\)|\{([^}]*)\}")

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus is not installed")


class Described(NamedTuple):
    """A metric: its type, its labels, and the names of its samples."""

    type: str
    labels: frozenset[str]
    samples: frozenset[str]


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Described]:
    """The metrics of a store with some figures, under the names that the page has."""
    cells = {SUM: 1.0, "1.0": 1.0}
    figures = {
        "request": {"/v1/models 2xx": cells},
        "first_byte": {"/v1/models 2xx": cells},
        "added": {"/v1/models": cells},
        "admission": {"": cells},
        "errors": {"code": {"": 1.0}},
    }
    with opened(make_settings(tmp_path_factory.mktemp("metrics"))) as store:
        with store.database.write():
            store.database.run("INSERT INTO process_figures VALUES ('one', ?)", (str(Snapshot(figures, {}, "1")),))
            store.database.run("INSERT INTO former_project VALUES ('p', 'Project')")
            store.database.run("INSERT INTO usage_total VALUES ('p', 'm', 1, 1, 1, 1, 1)")
            store.database.run("INSERT INTO refusal_total VALUES ('p', 'code', 1)")
        client = create_app(store, "management").test_client()
        text = client.get("/metrics", headers={"Authorization": "Bearer management"}).text
    return {
        f"{family.name}{'_total' if family.type == 'counter' else ''}": Described(
            family.type,
            frozenset(label for sample in family.samples for label in sample.labels) - {"le"},
            frozenset(sample.name for sample in family.samples),
        )
        for family in text_string_to_metric_families(text)
    }


def alert_expressions() -> Iterator[str]:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def dashboard_expressions() -> Iterator[str]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "5m")


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)  # noqa: S607
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_has_every_metric_with_its_type_and_labels(metrics: dict[str, Described]) -> None:
    rows = re.findall(r"^\| `(llm_proxy_\w+)` \| (\w+) \|([^|]*)\|", PAGE, re.MULTILINE)
    assert {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows} == {
        name: (metric.type, metric.labels) for name, metric in metrics.items()
    }
    assert len(rows) == len(metrics)


def test_alerts_and_the_dashboard_use_metrics_and_labels_that_there_are(metrics: dict[str, Described]) -> None:
    samples = {name for metric in metrics.values() for name in metric.samples}
    labels = {label for metric in metrics.values() for label in metric.labels} | {"le", "job"}
    expressions = [*alert_expressions(), *dashboard_expressions()]
    assert len(expressions) > 30
    for expression in expressions:
        assert set(_METRIC.findall(expression)) <= samples, expression
        groups = re.sub(r"\"[^\"]*\"", "", " ".join(map(" ".join, _LABELS.findall(expression))))
        assert set(re.findall(r"[a-z_]+", groups)) <= labels, expression


def test_every_metric_is_on_the_dashboard(metrics: dict[str, Described]) -> None:
    used = {name for expression in dashboard_expressions() for name in _METRIC.findall(expression)}
    assert [name for name, metric in metrics.items() if not used & metric.samples] == ["llm_proxy_build_info"]


def test_every_alert_has_an_example() -> None:
    alerts = {rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]}
    assert set(re.findall(r'alertname="(\w+)"', EXAMPLES.read_text())) == alerts


@needs_promtool
def test_promtool_accepts_the_rules_and_their_examples() -> None:
    promtool("check", "rules", str(ALERTS))
    promtool("test", "rules", str(EXAMPLES))


@needs_promtool
def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    shutil.copy(ALERTS, tmp_path)
    token = tmp_path / "token"
    token.write_text("management")
    config = tmp_path / CONFIG.name
    config.write_text(CONFIG.read_text().replace("/etc/prometheus/llm-proxy.token", str(token)))
    promtool("check", "config", str(config))


@needs_promtool
def test_promtool_accepts_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"panel_{number}", "expr": each} for number, each in enumerate(dashboard_expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(file))
