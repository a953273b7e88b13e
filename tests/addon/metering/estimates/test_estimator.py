import asyncio
import importlib.util
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from addon.metering.estimates import estimator as estimator_module
from addon.metering.estimates.estimate_request import EstimateRequest
from addon.metering.estimates.estimator import Estimator
from store.ledger.usage import Consumption, Metered, Source

FLEX = (("service_tier", "flex"),)


def request(text: bytes = b"Hello there") -> EstimateRequest:
    return EstimateRequest("/v1/chat/completions", "gpt-4o-2024-08-06", FLEX, "gpt-4o", texts=(("0", text),))


def estimate(tokens: int) -> Metered:
    used = Consumption("gpt-4o-2024-08-06", {"output_tokens": tokens}, FLEX)
    return Metered(Source.ESTIMATED, (used,), "gpt-4o", used.model)


@pytest.fixture
def estimator() -> Iterator[Estimator]:
    made = Estimator()
    yield made
    made.close()


def helpers() -> list[int]:
    """Return the processes that this one has started and that run."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and is_helper(entry)]


def is_helper(process: Path) -> bool:
    try:
        status, command = (process / "status").read_text(), (process / "cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return (
        f"\nPPid:\t{os.getpid()}\n" in status
        and "State:\tZ" not in status
        and "addon.metering.estimates.tokenizer" in command
    )


def the_helper() -> int:
    (pid,) = helpers()
    return pid


async def until(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not happens():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_estimates_are_made_in_one_process(estimator: Estimator) -> None:
    async def ask() -> None:
        assert helpers() == []
        answers = [estimator.estimate(request(b"word " * count)) for count in range(1, 20)]
        assert await asyncio.gather(*answers) == [estimate(count + 1) for count in range(1, 20)]
        helper = the_helper()
        assert await estimator.estimate(request()) == estimate(2)
        assert helpers() == [helper]
        estimator.close()
        assert helpers() == []
        assert await estimator.estimate(request()) is None

    asyncio.run(ask())


def test_a_process_that_dies_is_started_again(estimator: Estimator) -> None:
    async def ask() -> None:
        assert await estimator.estimate(request()) == estimate(2)
        os.kill(the_helper(), signal.SIGSTOP)
        waiting = asyncio.ensure_future(estimator.estimate(request(b"x" * 1_000_000)))
        await asyncio.sleep(0.05)
        os.kill(the_helper(), signal.SIGKILL)
        assert await waiting is None
        assert await estimator.estimate(request()) == estimate(2)

    asyncio.run(ask())


def test_a_process_that_takes_too_long_is_killed(estimator: Estimator, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        assert await estimator.estimate(request()) == estimate(2)
        monkeypatch.setattr(estimator_module, "TIMEOUT", 0.05)
        os.kill(the_helper(), signal.SIGSTOP)
        assert await estimator.estimate(request()) is None
        assert helpers() == []
        monkeypatch.undo()
        assert await estimator.estimate(request()) == estimate(2)

    asyncio.run(ask())


def test_an_idle_process_ends(estimator: Estimator, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        monkeypatch.setattr(estimator_module, "IDLE_TIME", 0.05)
        assert await estimator.estimate(request()) == estimate(2)
        await until(lambda: helpers() == [])
        assert await estimator.estimate(request()) == estimate(2)

    asyncio.run(ask())


def test_closing_ends_waiting_estimates(estimator: Estimator) -> None:
    async def ask() -> None:
        await estimator.estimate(request())
        os.kill(the_helper(), signal.SIGSTOP)
        waiting = [asyncio.ensure_future(estimator.estimate(request())) for _ in range(3)]
        await asyncio.sleep(0.05)
        start = time.monotonic()
        estimator.close()
        assert await asyncio.gather(*waiting) == [None] * 3
        assert time.monotonic() - start < 2
        assert helpers() == []

    asyncio.run(ask())


@pytest.mark.parametrize("limit", ["MAX_WAITING", "MAX_WAITING_BYTES"])
def test_no_estimate_is_made_beyond_the_bounds(
    estimator: Estimator, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    async def ask() -> None:
        await estimator.estimate(request())
        monkeypatch.setattr(estimator_module, limit, 2 if limit == "MAX_WAITING" else 2 * request().size)
        answers = await asyncio.gather(*[estimator.estimate(request()) for _ in range(4)])
        assert answers == [estimate(2), estimate(2), None, None]
        assert await estimator.estimate(request()) == estimate(2)

    asyncio.run(ask())


def test_a_cancelled_estimate_does_not_affect_the_others(estimator: Estimator) -> None:
    async def ask() -> None:
        tasks = [asyncio.ensure_future(estimator.estimate(request(b"word " * count))) for count in (1, 2, 3)]
        await asyncio.sleep(0.05)
        tasks[1].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert (answers[0], answers[2]) == (estimate(2), estimate(4))
        assert isinstance(answers[1], asyncio.CancelledError)

    asyncio.run(ask())


def test_a_missing_tokenizer_is_logged_once_with_its_remedy(
    estimator: Estimator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    async def ask(asked: Callable[[EstimateRequest], Awaitable[Metered | None]]) -> None:
        assert await asked(request()) is None
        assert await asked(request()) is None

    asyncio.run(ask(estimator.estimate))
    assert helpers() == []
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "-m pip install bpe-openai" in record.getMessage()


def test_the_process_gets_no_secret(estimator: Estimator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", "a secret")

    async def ask() -> None:
        await estimator.estimate(request())

    asyncio.run(ask())
    environment = Path(f"/proc/{the_helper()}/environ").read_bytes()
    assert b"PYTHONPATH" in environment
    assert b"ENCRYPTION_KEY" not in environment


def test_a_new_process_ignores_signals_to_the_group(estimator: Estimator) -> None:
    async def ask() -> None:
        waiting = asyncio.ensure_future(estimator.estimate(request()))
        await until(lambda: helpers() != [])
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(the_helper(), number)
        assert await waiting == estimate(2)

    asyncio.run(ask())
