"""The process itself, without the one that starts it."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from addon.metering.estimates import counting, tokenizer
from addon.metering.estimates.estimate_request import EstimateRequest, read_block

ROOT = Path(__file__).parents[4]
REQUEST = EstimateRequest("/v1/chat/completions", "gpt-4o", texts=(("0", b"Hello there"),))


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "addon.metering.estimates.tokenizer"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        yield process
        process.kill()


def answer(process: subprocess.Popen[bytes]) -> object:
    assert process.stdin is not None
    assert process.stdout is not None
    REQUEST.write(process.stdin)
    return json.loads(read_block(process.stdout))


def test_the_process_ignores_signals_and_ends_with_its_input(process: subprocess.Popen[bytes]) -> None:
    assert answer(process) == {"output_tokens": 2}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(process.pid, number)
    assert answer(process) == {"output_tokens": 2}
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(10) == 0


def test_the_process_imports_little_of_the_project(process: subprocess.Popen[bytes]) -> None:
    answer(process)
    maps = Path(f"/proc/{process.pid}/maps").read_text()
    assert "bpe_openai" in maps
    assert not [name for name in ("mitmproxy_rs", "cryptography", "sqlite") if name in maps]


def test_a_request_that_fails_does_not_affect_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: EstimateRequest) -> dict[str, int]:
        raise RecursionError

    monkeypatch.setattr(counting, "units", fail)
    asked, answers = io.BytesIO(), io.BytesIO()
    REQUEST.write(asked)
    asked.seek(0)
    tokenizer.serve(asked, answers)
    answers.seek(0)
    assert read_block(answers) == b"{}"


def test_requests_are_answered_in_order() -> None:
    asked, answers = io.BytesIO(), io.BytesIO()
    for text in (b"one", b"one two", b"one two three"):
        EstimateRequest("/v1/responses", None, texts=(("0", text),)).write(asked)
    asked.seek(0)
    tokenizer.serve(asked, answers)
    answers.seek(0)
    assert [json.loads(read_block(answers)) for _ in range(3)] == [{"output_tokens": count} for count in (1, 2, 3)]
