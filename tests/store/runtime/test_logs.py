import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from store.runtime import logs

TOKEN = "3f2b8a9e-6c1d-4e57-9a40-0d9b7c5f1e23"


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, peewee_level = root.handlers[:], root.level, logging.getLogger("peewee").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("peewee").setLevel(peewee_level)
    structlog.reset_defaults()


def fail(message: str) -> None:
    raise ValueError(message)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_a_line_of_json_has_the_fields_of_its_record(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logging.INFO, "json")
    logging.getLogger("some.library").warning("%s went %s", "it", "wrong", extra={"number": 1})
    [line] = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"level": "warning", "logger": "some.library", "event": "it went wrong", "number": 1}


def test_json_of_an_exception_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logging.INFO, "json")
    try:
        fail("why")
    except ValueError:
        logging.getLogger("x").exception("failed")
    [line] = lines(capsys)
    assert line["event"] == "failed"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("ValueError: why")


def test_structlog_uses_the_same_handler(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logging.INFO, "json")
    structlog.get_logger("x").info("hello", number=1)
    structlog.get_logger("x").debug("too quiet")
    [line] = lines(capsys)
    assert (line["event"], line["number"], line["level"], line["logger"]) == ("hello", 1, "info", "x")


def test_the_console_format_shows_a_traceback_without_values(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logging.INFO, "console")
    key = "sk-secret"
    try:
        fail(str(len(key)))
    except ValueError:
        logging.getLogger("x").exception("failed", extra={"number": 1})
    text = capsys.readouterr().err
    assert "failed" in text
    assert "number=1" in text
    assert "ValueError: 9" in text
    assert "sk-" + "secret" not in text.replace('key = "sk-secret"', "")  # values of variables are not shown


def test_records_below_the_level_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logging.WARNING, "json")
    logging.getLogger("x").info("too quiet")
    assert lines(capsys) == []


def test_configuring_again_replaces_the_handler(capsys: pytest.CaptureFixture[str]) -> None:
    other = logging.NullHandler()
    root = logging.getLogger()
    root.addHandler(other)
    before = len(root.handlers)
    logs.configure(logging.INFO, "console")
    logs.configure(logging.INFO, "json")
    assert len(root.handlers) == before + 1
    assert other in root.handlers
    logging.getLogger("x").info("once")
    assert [line["event"] for line in lines(capsys)] == ["once"]


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_tokens_in_paths_are_masked(capsys: pytest.CaptureFixture[str], log_format: logs.Format) -> None:
    logs.configure(logging.DEBUG, log_format)
    logging.getLogger("x").info("serving /manage/tokens/%s", TOKEN, extra={"path": f"/manage/tokens/{TOKEN}/x"})
    try:
        fail(f"/manage/tokens/{TOKEN}")
    except ValueError:
        logging.getLogger("x").exception("failed")
    text = capsys.readouterr().err
    assert TOKEN not in text
    assert text.count("<token>") >= 3


def test_statements_and_their_parameters_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logging.DEBUG, "json")
    logging.getLogger("peewee").debug(("SELECT ?", [TOKEN]))
    logging.getLogger("peewee").warning("this is")
    assert [line["event"] for line in lines(capsys)] == ["this is"]
