from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from support.stores.stores import foreign_lock

from store.store import Store


def test_health_shows_status_version_and_time(anyone: FlaskClient) -> None:
    answer = anyone.get("/health")
    assert answer.status_code == 200
    assert answer.json is not None
    assert set(answer.json) == {"status", "version", "timestamp"}
    assert answer.json["status"] == "ok"
    assert answer.json["version"] == metadata.version("llm-proxy")
    age = datetime.now(UTC) - datetime.fromisoformat(answer.json["timestamp"])
    assert timedelta(0) <= age < timedelta(seconds=10)


def test_health_does_not_use_the_store(anyone: FlaskClient, store: Store, tmp_path: Path) -> None:
    store.database.close()
    for file in tmp_path.iterdir():
        file.unlink()
    store.database.engine.init(str(tmp_path / "no" / "such.db"))
    assert anyone.get("/health").status_code == 200


def test_ready_while_the_store_answers(anyone: FlaskClient, store: Store) -> None:
    answer = anyone.get("/ready")
    assert (answer.status_code, (answer.json or {})["status"]) == (200, "ready")
    store.database.timeout = 0.1
    with foreign_lock(store):
        answer = anyone.get("/ready")
        assert (answer.status_code, (answer.json or {})["code"]) == (503, "store_unavailable")
    assert anyone.get("/ready").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/health"), ("GET", "/health/"), ("POST", "/ready"), ("GET", "/ready/")]
)
def test_other_methods_and_paths_are_refused(anyone: FlaskClient, method: str, path: str) -> None:
    assert anyone.open(path, method=method).status_code == (405 if method == "POST" else 404)
