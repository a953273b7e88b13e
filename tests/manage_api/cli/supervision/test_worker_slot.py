import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
from support.gateway.children import READY, SERVING, Output, is_gone, pids, python
from support.gateway.processes import DEADLINE, clean_environment
from support.gateway.signals import signals_kept

from manage_api.cli.supervision import worker_slot
from manage_api.cli.supervision.worker_slot import Service, WorkerSlot


@pytest.fixture(autouse=True)
def _signals_kept() -> Iterator[None]:
    with signals_kept():
        yield


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pids"


def run(command: Sequence[str], act: Callable[[WorkerSlot], Awaitable[None]]) -> bool:
    """Start a process, do something while it is kept, and end all. Returns the result of `stop`."""

    async def kept() -> bool:
        one = WorkerSlot(Service("one", command, [[]]), [], clean_environment())
        assert await one.start()
        keeping = asyncio.create_task(one.keep())
        await act(one)
        keeping.cancel()
        return await one.stop()

    return asyncio.run(kept())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def output(capfd: pytest.CaptureFixture[str]) -> Output:
    return Output(capfd)


STARTING = "starting another one"


def test_a_process_that_is_replaced_in_the_pause_after_its_death_is_not_restarted(
    file: Path, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_slot, "FIRST_PAUSE", 3600.0)

    async def act(one: WorkerSlot) -> None:
        os.kill(pids(file)[0], signal.SIGKILL)
        await until(lambda: output.has(STARTING))
        assert await one.replace()
        assert await one.replace()  # comes after everything that was started before
        assert len(pids(file)) == 3
        monkeypatch.setattr(worker_slot, "LONGEST_PAUSE", 0.0)
        os.kill(pids(file)[2], signal.SIGKILL)  # its successor is kept
        await until(lambda: len(pids(file)) == 4)

    assert run(python(SERVING, str(file)), act)
    assert all(map(is_gone, pids(file)))


def test_a_process_that_dies_while_it_is_replaced_is_not_restarted(
    file: Path, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_slot, "FIRST_PAUSE", 0.0)
    slow = file.with_name("slow")
    code = SERVING.replace(
        READY, f"[signal.sigtimedwait([], 0.01) for _ in iter(lambda: os.path.exists(sys.argv[2]), False)]; {READY}"
    )

    async def act(one: WorkerSlot) -> None:
        slow.touch()
        replacing = asyncio.create_task(one.replace())
        await until(lambda: len(pids(file)) == 2)
        os.kill(pids(file)[0], signal.SIGKILL)
        await until(lambda: output.has(STARTING))
        slow.unlink()
        assert await replacing
        assert await one.replace()  # comes after everything that was started before
        assert len(pids(file)) == 3

    assert run(python(code, str(file), str(slow)), act)
    assert all(map(is_gone, pids(file)))


def test_the_page_of_a_restarted_process_is_printed(
    file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(worker_slot, "FIRST_PAUSE", 0.0)
    code = SERVING.replace("b'5'", "f'5 http://web/?token={os.getpid()}'.encode()")
    output = ""

    async def act(one: WorkerSlot) -> None:
        def has(text: str) -> bool:
            nonlocal output
            output += capfd.readouterr().out
            return text in output

        (first,) = pids(file)
        assert one.page == f"http://web/?token={first}"
        os.kill(first, signal.SIGKILL)
        await until(lambda: len(pids(file)) == 2)
        await until(lambda: has(f"The one is at http://web/?token={pids(file)[1]} now.\n"))

    assert run(python(code, str(file)), act)
    assert "token" not in output.replace("The one is at http://web/?token=", "", 1)


def test_without_its_program_a_process_continues_and_is_restarted_once_the_program_is_back(
    file: Path, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_slot, "FIRST_PAUSE", 0.0)
    program = file.with_name("python")
    program.symlink_to(sys.executable)

    async def act(one: WorkerSlot) -> None:
        program.unlink()
        assert not await one.replace()
        assert output.has("Cannot start the one: ")
        (pid,) = pids(file)
        assert not is_gone(pid)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: output.has(STARTING, times=2))
        program.symlink_to(sys.executable)
        await until(lambda: len(pids(file)) == 2)

    assert run([str(program), *python(SERVING, str(file))[1:]], act)


def test_a_restarted_process_that_never_serves_is_killed_and_retried(
    file: Path, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_slot, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(worker_slot, "START_TIMEOUT", 0.5)
    stuck = file.with_name("stuck")
    code = f"import os, signal, sys; os.path.exists(sys.argv[2]) and signal.pause(); {SERVING}"

    async def act(_: WorkerSlot) -> None:
        stuck.touch()
        os.kill(pids(file)[0], signal.SIGKILL)
        await until(lambda: output.has("The one ended with status -9 before it served."))
        stuck.unlink()
        monkeypatch.setattr(worker_slot, "START_TIMEOUT", DEADLINE)
        await until(lambda: len(pids(file)) == 2)

    assert run(python(code, str(file), str(stuck)), act)
    assert all(map(is_gone, pids(file)))
