"""The benchmark runs, in its shortest form, and writes its files."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from support.gateway.processes import ROOT, Process, clean_environment

CONTESTANTS = ["mitmdump", "launcher-sqlite"]


@pytest.mark.soak("tests/benchmarks")
def test_a_quick_run_of_two_contestants_writes_its_files(tmp_path: Path) -> None:
    command = [str(ROOT / "run.sh"), "bench", "--quick", "--only", ",".join(CONTESTANTS), "--output", str(tmp_path)]
    process = Process(command, env=clean_environment(), log=tmp_path / "log")
    assert process.wait(100) == 0, process.output()
    rounds = json.loads((tmp_path / "benchmarks.json").read_text())["rounds"]
    assert list(rounds) == [
        *("paths", "1 connection", "32 connections", "events", "memory"),
        *("tls, kept connection", "tls, new connections"),
    ]
    for measure, contestants in rounds.items():
        assert [name for name in contestants if name != "direct"] == CONTESTANTS[measure == "paths" :], measure
    page = (tmp_path / "benchmarks.md").read_text()
    assert all(f"| {name} | " in page for name in CONTESTANTS)
    ET.parse(tmp_path / "benchmarks.svg")  # noqa: S314 - made here


def test_an_unknown_contestant_is_rejected(tmp_path: Path) -> None:
    command = [str(ROOT / "run.sh"), "bench", "--quick", "--only", "apache"]
    process = Process(command, env=clean_environment(), log=tmp_path / "log")
    assert process.wait() == 2
    assert "There is no apache, only nginx, mitmdump," in process.output()
